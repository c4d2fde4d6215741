"""`dirl tile`."""

from pathlib import Path
from typing import Annotated

import typer

from dirl.cli.checks import check_slides
from dirl.cli.options import Cohort, Overwrite, Part, Quiet, Workers, takes
from dirl.config import TileConfig
from dirl.core.cohort_part import parse_part


@takes(
    TileConfig, "mpp", "size_px", "stride_px", "min_tissue", "mpp_override", "allow_upsample", "max_pixels"
)
def tile(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[INPUT]...",
            help="Slides, folders of slides, or a folder whose sub-folders (classes) hold ready-made tiles. "
            "By default the slides of --cohort.",
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="STORE", help="Directory to write to.")],
    config: TileConfig,
    cohort: Cohort = None,
    part: Part = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Cut slides into tiles of tissue at one resolution.

    Ready-made tiles keep their pixels and their size, and need --mpp-override. Run it again to make only what
    is missing.

    Example: dirl tile slides/ --out store --mpp 0.5 --size 224
    """
    check_slides(inputs, cohort)
    chosen = parse_part(part)
    from dirl.core.progress import counted, show
    from dirl.store.build import tile_part

    store = tile_part(
        inputs or [],
        out,
        config,
        chosen,
        cohort=cohort,
        workers=workers,
        overwrite=overwrite,
        quiet=quiet,
    )
    if store is None:
        show(f": part {chosen} is done. The part that ends last writes the index.", out)
        return
    spec = store.spec
    kinds = {record.kind for record in store.slides.values()}
    unit = {"slide": "slide", "tiles": "class"}.get(kinds.pop(), "") if len(kinds) == 1 else "input"
    named = counted(len(store.slides), unit, "classes" if unit == "class" else "")
    show(
        f"{counted(len(store), 'tile')} of {spec.size_px} px at {spec.mpp:g} µm/px from {named} "
        f"in {out}; the slides with their tiles drawn in: {out / 'pictures'}"
    )
