"""`dirl view`."""

from pathlib import Path
from typing import Annotated

import typer


def view(
    path: Annotated[
        Path, typer.Argument(metavar="STORE|SLIDE", help="A tile store, a slide, or a plain image.")
    ],
    audit: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An audit of the store: measures by tile.")
    ] = None,
    map_: Annotated[
        list[Path] | None,
        typer.Option("--map", metavar="DIR", help="A whole-slide attention map; may be given again."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Features of the store's tiles: nearest neighbours."),
    ] = None,
    mpp_override: Annotated[
        float | None,
        typer.Option(metavar="UM", help="µm per pixel of a slide whose file names none.", min=0.001),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own is open to others.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.", min=0, max=65535)] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Look at slides, tiles, nuclei and attention in a browser, two maps side by side if wanted."""
    from dirl.viewer.run import view as run

    run(
        path,
        audit=audit,
        maps=map_ or [],
        features=features,
        mpp_override=mpp_override,
        host=host,
        port=port,
        browser=not no_browser,
    )
