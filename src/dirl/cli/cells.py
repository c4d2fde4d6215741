"""`dirl cells`."""

from typing import Annotated

import typer

from dirl.cli.checks import check_store
from dirl.cli.options import Device, Overwrite, Part, Quiet, StoreArgument, Workers, takes
from dirl.config import CellsConfig
from dirl.core.cohort_part import parse_part

SHOWN = 3  # slides whose frame is printed


@takes(CellsConfig, "segmenter", "name")
def cells(
    store: StoreArgument,
    config: CellsConfig,
    device: Device = "auto",
    batch: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Windows in one forward pass. By default it suits the device.",
        ),
    ] = None,
    part: Part = None,
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find the nuclei on the slides of a store's tiles, or read your own.

    A store can hold the cells of several segmenters. Run the same command again to make only what is missing.

    Example: dirl cells store --segmenter geojson:qupath/
    """
    check_store(store)
    chosen = parse_part(part)
    from dirl.cells.run import cells_part
    from dirl.core.progress import counted, say, show

    found = cells_part(
        store,
        config,
        chosen,
        workers=workers,
        device=device,
        batch=batch,
        overwrite=overwrite,
        quiet=quiet,
    )
    if found is None:
        show(f": part {chosen} is done. The part that ends last writes the index.", store)
        return
    if not quiet:
        for note, count in found.card.counts.get("notes", {}).items():
            say(f"note: {note}: {count}")
        frames = found.card.counts.get("frames", {})
        for slide, frame in list(frames.items())[:SHOWN]:
            say(f"{slide}: {frame}")
        if len(frames) > SHOWN:
            more = f"and {len(frames) - SHOWN} more slides that QuPath crops; all are in"
            say(f"{more} {found.path / 'card.json'}")
    counts = found.card.counts
    outside = counts["nuclei_outside_tiles"]
    more = f" ({outside} more lie outside of every tile)" if outside else ""
    show(
        f"{counts['nuclei']} nuclei in {counted(len(found), 'tile')}{more}; "
        f"look at their outlines: {found.path / 'pictures'}"
    )
