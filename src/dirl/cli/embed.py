"""`dirl embed`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Pool(StrEnum):
    """How tokens become a feature."""

    model = "model"
    mean = "mean"
    regions = "regions"


class Format(StrEnum):
    """What to write beside the HDF5 files."""

    anndata = "anndata"


class Precision(StrEnum):
    """How precisely the encoder computes."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


def embed(
    encoder: Annotated[str, typer.Argument(help="A run's directory, or timm:NAME[,weights=FILE|random].")],
    store: Annotated[Path, typer.Option(help="Tile store.")],
    out: Annotated[Path, typer.Option(help="Directory of the features.")],
    pool: Annotated[
        Pool,
        typer.Option(
            help="The model's own pooling, the mean of the patch tokens, or their means over nuclei and over "
            "the rest of the tissue, side by side."
        ),
    ] = Pool.model,
    cells: Annotated[str, typer.Option(help="Whose cells, with --pool regions.")] = "hematoxylin",
    select: Annotated[
        float | None,
        typer.Option(
            help="Only this share of each slide's tiles: some of each look, spread over the slide; else all."
        ),
    ] = None,
    tiles: Annotated[
        int | None, typer.Option(help="At most so many, spread over the slides; else all.", min=1)
    ] = None,
    batch: Annotated[int, typer.Option(help="Tiles in one forward pass.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the forward pass; auto is bf16 on a GPU that has it.")
    ] = Precision.auto,
    workers: Annotated[int, typer.Option(help="Processes that read tiles.", min=0)] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the choice of tiles and of the untrained floor.")] = 0,
    to: Annotated[
        Format | None,
        typer.Option(help="Write features.h5ad, too; needs the extra dirl[anndata]."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace features made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Embed the tiles of a store: one HDF5 file per slide, and floors to compare with."""
    from rich import print as show
    from rich.markup import escape

    from dirl.features.embed import embed as run
    from dirl.features.to_anndata import require_anndata, write_anndata
    from dirl.store.select import describe

    if to is not None:  # missed before hours of embedding, not after
        require_anndata()
    made = run(
        encoder,
        store,
        out,
        pool=pool.value,
        cells=cells,
        precision=precision.value,
        select=select,
        tiles=tiles,
        seed=seed,
        device=device,
        batch=batch,
        workers=workers,
        overwrite=overwrite,
        quiet=quiet,
    )
    tiles_made, width = made.values.shape
    show(f"[bold]{escape(str(made.path))}[/]: {tiles_made} tiles, {width} features each")
    if selected := made.card.counts.get("selected"):
        show(describe(selected))
    if to is not None:
        show(f"AnnData: {escape(str(write_anndata(made)))}")
