"""`dirl map`."""

from pathlib import Path
from typing import Annotated

import typer


def map_slide(
    encoder: Annotated[str, typer.Argument(help="A run's directory, or timm:NAME[,weights=FILE|random].")],
    slide: Annotated[Path, typer.Argument(help="A slide, or the folder of a DICOM series.")],
    out: Annotated[Path, typer.Option(help="Directory of the map.")],
    mpp: Annotated[float, typer.Option(help="Resolution of the tiles in µm/px.")] = 0.5,
    size: Annotated[
        int | None, typer.Option(help="Side of a tile in pixels; if not given, 224 cut to whole patches.")
    ] = None,
    overlap: Annotated[
        float, typer.Option(help="Share of a tile's side that the next one covers too.")
    ] = 0.5,
    block: Annotated[int, typer.Option(help="Whose attention, from 0; -1 is the last.")] = -1,
    heads: Annotated[
        str, typer.Option(metavar="mean|each", help="Their mean; or that, and each by itself.")
    ] = "mean",
    within: Annotated[
        str,
        typer.Option(
            metavar="tissue|patches|softmax|rank",
            help="Scale within a tile. tissue: 1 is an even share of its tissue tokens; patches: of all its "
            "patch tokens; softmax: the same, less what other tokens took; rank: 0 to 1.",
        ),
    ] = "tissue",
    between: Annotated[
        str,
        typer.Option(
            metavar="uniform|patch-mass|FILE",
            help="Weight of a tile: none, its attention on patch tokens, or a slide model's from a CSV or "
            "Parquet file with x, y (level-0 px) and weight.",
        ),
    ] = "uniform",
    min_tissue: Annotated[
        float, typer.Option(help="Share of a tile that must be tissue; 0: any at all.")
    ] = 0.0,
    mpp_override: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Resolution of the slide, where its file names none or lies."),
    ] = None,
    allow_upsample: Annotated[
        bool, typer.Option("--allow-upsample", help="Enlarge a slide that is coarser than --mpp.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    batch: Annotated[int, typer.Option(help="Tiles in one forward pass.", min=1)] = 32,
    workers: Annotated[int, typer.Option(help="Threads that read tiles.", min=1)] = 2,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a map made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Show no progress.")] = False,
) -> None:
    """Map the attention of an encoder over a whole slide, for QuPath, OpenSlide and `dirl view`."""
    from rich import print as show
    from rich.markup import escape

    from dirl.config import MapConfig, make
    from dirl.maps.run import map_slide as run

    config = make(
        MapConfig,
        {
            "mpp": mpp,
            "size_px": size,
            "overlap": overlap,
            "block": block,
            "heads": heads,
            "within": within,
            "between": between,
            "min_tissue": min_tissue,
            "mpp_override": mpp_override,
            "allow_upsample": allow_upsample,
        },
        where="dirl map",
    )
    made = run(
        encoder,
        slide,
        out,
        config,
        device=device,
        batch=batch,
        workers=workers,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not quiet:
        grid, tissue = made.summary.map, made.summary.tissue
        width, height = grid.size_px
        show(
            f"[bold]{escape(str(made.path))}[/]: {width}×{height} tokens of {grid.mpp:.3g} µm from "
            f"{made.summary.tiles.count} tiles, {len(made.summary.channels)} channel(s)"
        )
        if left_out := tissue.tokens - tissue.mapped:
            show(f"{left_out} of {tissue.tokens} tissue tokens lie in no tile (--min-tissue)")
