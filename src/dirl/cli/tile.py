"""`dirl tile`: slides and folders of ready-made tiles into a tile store."""

from pathlib import Path
from typing import Annotated

import typer


def tile(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...",
            help="Slides, folders of slides, or a folder whose sub-folders (classes) hold ready-made tiles.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="STORE", help="Directory of the tile store.")],
    mpp: Annotated[float, typer.Option(help="Resolution of the tiles in µm/px.")] = 0.5,
    size: Annotated[int, typer.Option(help="Side of a tile in pixels.")] = 224,
    stride: Annotated[
        int | None, typer.Option(metavar="PX", help="From tile to tile in pixels; the side if not given.")
    ] = None,
    mpp_override: Annotated[
        float | None,
        typer.Option(
            metavar="UM", help="Resolution of the inputs in µm/px, where the files name none or lie."
        ),
    ] = None,
    slides_table: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="What the files do not tell: columns slide_id and any of patient_id, centre, mpp.",
        ),
    ] = None,
    allow_upsample: Annotated[
        bool, typer.Option("--allow-upsample", help="Enlarge slides that are coarser than --mpp.")
    ] = False,
    min_tissue: Annotated[float, typer.Option(help="Share of a tile that must be tissue.")] = 0.5,
    max_pixels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Most pixels of a plain image, which is held in memory whole at 7 bytes each; "
            "1,000 million if not given.",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with a slide of its own.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make a store anew that is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Cut slides into tiles at a stated resolution, glass left out.

    Ready-made tiles keep their pixels and their size, and need --mpp-override. Run again, only what is
    missing is made.
    """
    from rich.console import Console

    from dirl.config import TileConfig, make
    from dirl.store.build import tile as build

    config = make(
        TileConfig,
        {
            "mpp": mpp,
            "size_px": size,
            "stride_px": stride,
            "mpp_override": mpp_override,
            "allow_upsample": allow_upsample,
            "min_tissue": min_tissue,
            "max_pixels": max_pixels,
        },
        where="dirl tile",
    )
    store = build(
        inputs, out, config, slides_table=slides_table, workers=workers, overwrite=overwrite, quiet=quiet
    )
    if not quiet:
        spec = store.spec
        kinds = {record.kind for record in store.slides.values()}
        unit = {"slide": "slide", "tiles": "class"}.get(kinds.pop(), "") if len(kinds) == 1 else "input"
        many = "" if len(store.slides) == 1 else "es" if unit == "class" else "s"
        Console().print(
            f"{len(store)} tiles of {spec.size_px} px at {spec.mpp:g} µm/px from {len(store.slides)} "
            f"{unit}{many} in {out}; the slides with their tiles drawn in: {out / 'pictures'}",
            highlight=False,
            soft_wrap=True,
        )
