"""`dirl cells-export`."""

from typing import Annotated, Literal

import typer

from dirl.cli.checks import check_store
from dirl.cli.options import Cells, Out, Overwrite, Quiet, StoreArgument, Workers


def cells_export(
    store: StoreArgument,
    out: Out,
    cells: Cells = "hematoxylin",
    to: Annotated[Literal["geojson"], typer.Option(help="Format of the files.")] = "geojson",
    workers: Workers = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write cells as QuPath objects: SLIDE.geojson, or CLASS/TILE.geojson for ready-made tiles.

    `dirl cells STORE --segmenter geojson:DIR` reads them again, also after you edited them in QuPath.

    Example: dirl cells-export store --out geojson --cells hovernet
    """
    check_store(store)
    from dirl.cells.export import cells_export as export
    from dirl.core.progress import counted, show

    result = export(store, out, cells=cells, to=to, workers=workers, overwrite=overwrite, quiet=quiet)
    if quiet:
        return
    written = result.summary.all
    differ = written.pixels_that_differ
    back = f"{differ} pixels differ" if differ else "every pixel is as in the store"
    show(f"{written.nuclei} nuclei in tiles, in {counted(written.files, 'file')}: {out}; read back, {back}")
