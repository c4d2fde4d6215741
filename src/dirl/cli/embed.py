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
    out: Annotated[Path, typer.Option(help="Directory of the features.")],
    more: Annotated[list[Path] | None, typer.Argument(hidden=True)] = None,  # of --slides *.svs
    store: Annotated[Path | None, typer.Option(help="Tile store; this or --slides.")] = None,
    slides: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH...",
            help="Slides or folders of slides, cut into tiles as they are read; nothing but features is "
            "written.",
        ),
    ] = None,
    mpp: Annotated[float | None, typer.Option(help="Of slides: resolution in µm/px; else 0.5.")] = None,
    size: Annotated[int | None, typer.Option(help="Of slides: side of a tile in pixels; else 224.")] = None,
    stride: Annotated[
        int | None,
        typer.Option(metavar="PX", help="Of slides: from tile to tile in pixels; else the side."),
    ] = None,
    min_tissue: Annotated[
        float | None, typer.Option(help="Of slides: share of a tile that must be tissue; else 0.5.")
    ] = None,
    mpp_override: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Resolution of the slides in µm/px, where files name none or lie."),
    ] = None,
    slides_table: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Of slides: slide_id and any of patient_id, centre, mpp."),
    ] = None,
    allow_upsample: Annotated[
        bool, typer.Option("--allow-upsample", help="Enlarge slides that are coarser than --mpp.")
    ] = False,
    pool: Annotated[
        Pool,
        typer.Option(
            help="The model's own pooling, the mean of the patch tokens, or their means over nuclei and over "
            "the rest of the tissue, side by side, which needs a store with cells."
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
        int | None,
        typer.Option(help="At most so many of a store, spread over its slides; else all.", min=1),
    ] = None,
    no_baselines: Annotated[
        bool,
        typer.Option(
            "--no-baselines",
            help="Leave out what features are compared with: half the time, but leaks and the gate cannot "
            "be judged.",
        ),
    ] = False,
    batch: Annotated[int, typer.Option(help="Tiles in one forward pass.", min=1)] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    precision: Annotated[
        Precision, typer.Option(help="Of the forward pass; auto is bf16 on a GPU that has it.")
    ] = Precision.auto,
    workers: Annotated[int, typer.Option(help="Threads that read tiles beside the forward pass.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="Seed of the choice of tiles and of the untrained baseline.")] = 0,
    to: Annotated[
        Format | None,
        typer.Option(help="Write features.h5ad, too; needs the extra dirl[anndata]."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace features made otherwise.")] = False,
    quiet: Annotated[bool, typer.Option(help="Show no progress.")] = False,
) -> None:
    """Embed tiles of a store, or of slides: one HDF5 file per slide, and baselines to compare with."""
    from rich import print as show
    from rich.markup import escape

    from dirl.config import TileConfig, make
    from dirl.core.errors import ConfigError
    from dirl.features.embed import embed as run
    from dirl.features.sources import SlideFiles
    from dirl.features.to_anndata import require_anndata, write_anndata
    from dirl.store.select import describe

    if (store is None) == (slides is None):
        what = "neither of them" if store is None else "both"
        raise ConfigError(f"{what} given", where="--store, --slides", remedy="name one")
    cut = {
        "mpp": mpp,
        "size_px": size,
        "stride_px": stride,
        "min_tissue": min_tissue,
        "mpp_override": mpp_override,
        "allow_upsample": allow_upsample or None,
    }
    cut = {name: value for name, value in cut.items() if value is not None}
    source: Path | SlideFiles
    if slides is not None:
        config = make(TileConfig, cut, where="dirl embed")
        source = SlideFiles([*slides, *(more or [])], config, slides_table=slides_table, quiet=quiet)
    elif store is not None:
        if cut or slides_table or more:
            given = ", ".join([*cut, *(["slides_table"] if slides_table else []), *map(str, more or [])])
            reason = (
                f"a store's tiles are cut already, and what is known of its slides stands in it ({given})"
            )
            raise ConfigError(reason, where="--store", remedy="leave that out, or name --slides")
        source = store
    if to is not None:  # missed before hours of embedding, not after
        require_anndata()
    made = run(
        encoder,
        source,
        out,
        pool=pool.value,
        cells=cells,
        precision=precision.value,
        select=select,
        tiles=tiles,
        seed=seed,
        baselines=not no_baselines,
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
