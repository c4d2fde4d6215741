"""`dirl cells-report`: what was taken for nuclei, to be looked at."""

from pathlib import Path
from typing import Annotated

import typer


def cells_report(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Tile store with cells.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the report.")],
    cells: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Whose cells; may be repeated. By default all in the store."),
    ] = None,
    tiles: Annotated[int, typer.Option(help="How many tiles to show.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Seed of which tiles are shown.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a report with other settings.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Write one HTML file: outlines on random tiles, statistics, and slides that stand out.

    Cells of several segmenters stand side by side.
    """
    from rich.table import Table

    from dirl.cells.report.run import cells_report as report
    from dirl.core.progress import printer

    summary = report(
        store, out, segmenters=cells or (), tiles=tiles, seed=seed, overwrite=overwrite, quiet=quiet
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
    console = printer()
    console.print(table)
    for name, one in summary.cells.items():
        for slide, why in one.resolution_warnings.items():
            console.print(f"{slide} ({name}): {why}", highlight=False, soft_wrap=True)
    for each in summary.outliers:
        console.print(f"{each.slide} ({each.cells}): {each.what}", highlight=False, soft_wrap=True)
    console.print(f"look at {out / 'report.html'}", highlight=False, soft_wrap=True)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
