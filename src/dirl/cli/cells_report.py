"""`dirl cells-report`."""

from typing import Annotated

import typer

from dirl.cli.checks import check_store
from dirl.cli.options import Out, Overwrite, Quiet, Seed, StoreArgument


def cells_report(
    store: StoreArgument,
    out: Out,
    cells: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Name of the cells in the store. Repeat it for more. By default all."
        ),
    ] = None,
    tiles: Annotated[int, typer.Option(metavar="N", help="Number of tiles to show.", min=1)] = 8,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Write one HTML file: outlines on random tiles, statistics, and slides that are outliers.

    It compares several sets of cells.

    Example: dirl cells-report store --out report
    """
    check_store(store)
    from rich.table import Table

    from dirl.cells.report.run import cells_report as report
    from dirl.core.progress import printer, show

    summary = report(
        store, out, cells=cells or (), tiles=tiles, seed=seed, overwrite=overwrite, quiet=quiet
    ).summary
    if quiet:
        return
    table = Table(
        "cells", "nuclei in tiles", "per mm²", "covered", "median µm²", "prior contrast 4 / 8 / 16 µm"
    )
    for name, one in summary.cells.items():
        total = one.all
        contrast = " / ".join(_number(value, "{:.2f}") for value in total.prior_contrast.values())
        table.add_row(
            name,
            f"{total.nuclei:,}",
            _number(total.nuclei_per_mm2, "{:,.0f}"),
            _number(total.coverage, "{:.1%}"),
            _number(one.median_um2, "{:.0f}"),
            contrast,
        )
    printer().print(table)
    for name, one in summary.cells.items():
        for slide, why in one.resolution_warnings.items():
            show(f"{slide} ({name}): {why}")
    for each in summary.outliers:
        show(f"{each.slide} ({each.cells}): {each.what}")
    show(f"look at {out / 'report.html'}")


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
