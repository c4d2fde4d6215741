"""`dirl map`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dirl.cli.checks import check_encoders, check_slides
from dirl.cli.options import Batch, Device, Encoder, Out, Overwrite, Quiet, Threads, takes
from dirl.config import MapConfig
from dirl.core.errors import ConfigError


@takes(MapConfig)
def map_slide(
    encoder: Encoder,
    slide: Annotated[
        Path | None,
        typer.Argument(metavar="SLIDE", help="A slide, or the folder of a DICOM series. Or give --cohort."),
    ] = None,
    *,
    out: Out,
    cohort: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Map all slides of a table, each in a folder of its own."),
    ] = None,
    config: MapConfig,
    device: Device = "auto",
    batch: Batch = 32,
    workers: Threads = 2,
    to: Annotated[
        Literal["qupath"] | None,
        typer.Option(help="Add a script that shows the map in QuPath, and the steps in words."),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Map the attention of an encoder over a whole slide, for QuPath, OpenSlide and `dirl view`.

    Example: dirl map runs/dirl slide.svs --out maps/slide
    """
    check_slides([] if slide is None else [slide], cohort)
    if slide is not None and cohort is not None:
        raise ConfigError("both given", where="SLIDE, --cohort", remedy="name one")
    check_encoders(encoder)
    from dirl.core.progress import counted, show

    if cohort is not None:
        from dirl.maps.cohort import map_cohort

        maps = map_cohort(
            encoder,
            cohort,
            out,
            config,
            device=device,
            batch=batch,
            workers=workers,
            to=to,
            overwrite=overwrite,
            quiet=quiet,
        )
        show(f": maps of {counted(len(maps), 'slide')}, each in its folder", out)
        return
    assert slide is not None
    from dirl.maps.run import map_slide as run

    made = run(
        encoder,
        slide,
        out,
        config,
        device=device,
        batch=batch,
        workers=workers,
        to=to,
        overwrite=overwrite,
        quiet=quiet,
    )
    grid, tissue = made.summary.map, made.summary.tissue
    width, height = grid.size_px
    show(
        f": {width}×{height} tokens of {grid.mpp:.3g} µm from "
        f"{counted(made.summary.tiles.count, 'tile')}, {counted(len(made.summary.channels), 'channel')}",
        made.path,
    )
    if to == "qupath":
        show("For QuPath: the steps are in README.md there.")
    if left_out := tissue.tokens - tissue.mapped:
        show(f"{left_out} of {tissue.tokens} tissue tokens lie in no tile (--min-tissue)")
