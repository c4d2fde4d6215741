"""`dirl cells-export`: a store's cells for QuPath."""

from pathlib import Path
from typing import Annotated

import typer


def cells_export(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Tile store with cells.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory to write to.")],
    cells: Annotated[str, typer.Option(metavar="NAME", help="Whose cells.")] = "hematoxylin",
    to: Annotated[str, typer.Option(help="Format: geojson.")] = "geojson",
    workers: Annotated[int, typer.Option(help="Processes, each with a slide of its own.", min=1)] = 1,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an export with other settings.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Write cells as QuPath objects: SLIDE.geojson, or CLASS/TILE.geojson for ready-made tiles.

    `dirl cells STORE --segmenter geojson:DIR` reads them again, also after they were edited in QuPath.
    """
    from rich.console import Console

    from dirl.cells.export import cells_export as export

    result = export(store, out, segmenter=cells, to=to, workers=workers, overwrite=overwrite, quiet=quiet)
    if quiet:
        return
    written = result.summary.all
    differ = written.pixels_that_differ
    back = f"{differ} pixels differ" if differ else "every pixel is as in the store"
    Console().print(
        f"{written.nuclei} nuclei in tiles, in {written.files} files: {out}; read back, {back}",
        highlight=False,
        soft_wrap=True,
    )
