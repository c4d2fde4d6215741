"""`dirl cells`: the nuclei of a store's tiles, found or the user's own."""

from pathlib import Path
from typing import Annotated

import typer

SHOWN = 3  # slides whose frame is printed


def cells(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Tile store that `dirl tile` made.")],
    segmenter: Annotated[
        str,
        typer.Option(
            help="Who finds the nuclei: NAME[,key=value…], as in hovernet,weights=FILE, or "
            "package.module:attribute; or your own: labels:DIR[,mpp=UM][,frame=…], "
            "geojson:DIR[,frame=auto|qupath|level0], hovernet-json:DIR, cellvit-json:DIR, "
            "imagej-rois:DIR. "
            "`dirl doctor` lists the names."
        ),
    ] = "hematoxylin",
    name: Annotated[
        str | None,
        typer.Option(help="Name that the cells have in the store; by default the segmenter's own."),
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes, each with a slide of its own.")] = 1,
    device: Annotated[str, typer.Option(help="Where a network computes: auto, cpu, cuda…")] = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Windows through a network at a time; by default what suits the device."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace cells of this segmenter that are there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Find the nuclei, on the slides that the tiles were cut from, or take your own.

    Cells of several segmenters lie side by side in a store. Run again, only what is missing is made.
    """
    from rich.console import Console

    from dirl.cells.run import cells as segment
    from dirl.config import CellsConfig, make

    config = make(CellsConfig, {"segmenter": segmenter, "name": name}, where="dirl cells")
    found = segment(
        store,
        config,
        workers=workers,
        device=device,
        batch_size=batch_size,
        overwrite=overwrite,
        quiet=quiet,
    )
    if not quiet:
        for note, count in found.card.counts.get("notes", {}).items():
            Console(stderr=True).print(f"note: {note}: {count}", highlight=False, soft_wrap=True)
        frames = found.card.counts.get("frames", {})
        for slide, frame in list(frames.items())[:SHOWN]:
            Console(stderr=True).print(f"{slide}: {frame}", highlight=False, soft_wrap=True)
        if len(frames) > SHOWN:
            more = f"and {len(frames) - SHOWN} more slides that QuPath crops; all are in"
            Console(stderr=True).print(f"{more} {found.path / 'card.json'}", highlight=False, soft_wrap=True)
        counts = found.card.counts
        outside = counts["nuclei_outside_tiles"]
        more = f" ({outside} more lie outside of every tile)" if outside else ""
        Console().print(
            f"{counts['nuclei']} nuclei in {len(found)} tiles{more}; "
            f"look at their outlines: {found.path / 'pictures'}",
            highlight=False,
            soft_wrap=True,
        )
