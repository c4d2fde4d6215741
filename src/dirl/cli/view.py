"""`dirl view`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_paths
from dirl.cli.options import MppOverride


def view(
    path: Annotated[
        Path, typer.Argument(metavar="STORE|SLIDE", help="A tile store, a slide, or a plain image.")
    ],
    audit: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An audit of the store, to show measures of tiles.")
    ] = None,
    map_: Annotated[
        list[Path] | None,
        typer.Option("--map", metavar="DIR", help="A whole-slide attention map. Repeat it for more."),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE|DIR", help="Features of the store's tiles, to show nearest neighbours."),
    ] = None,
    mpp_override: MppOverride = None,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS", help="Address of the server. By default only this computer can connect."
        ),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", help="Port. 0 takes a free one.", min=0, max=65535)] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Open no browser.")] = False,
) -> None:
    """Show slides, tiles, nuclei and attention in a browser, one map or two side by side.

    Example: dirl view store --audit audit --map maps/slide
    """
    check_paths([path, audit, *(map_ or []), features])
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
