"""Print scores of nuclei: images, means with intervals, classes, differences to the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dirl.cells.scoring.metrics import SCORES
from dirl.cells.scoring.run import COVERAGE, ScoreTable, summarise_scores
from dirl.cells.token_shares import TOKENS_UM
from dirl.core.intervals import Estimate
from dirl.core.progress import printer

SHOWN_IMAGES = 40
COMPARED = ("dice", "f1", "pq", "aji", "coverage_r_8um")
TITLES = {name: name.upper() for name in SCORES} | {"dice": "Dice", "mpq": "mPQ"}
TITLES |= {name: f"r {side} µm" for name, side in zip(COVERAGE, TOKENS_UM, strict=True)}


def print_scores(table: ScoreTable, out: Path | None = None, console: Console | None = None) -> None:
    """Print the images of a single prediction if they are few, then means, classes and differences."""
    console = console or printer()
    found = summarise_scores(table)
    at = "" if table.mpp is None else f" at {table.mpp:.3g} µm/px"
    over = found.interval
    many = f"s{at}; mean, and 95 % interval over {over.units} {over.over}"
    console.print(f"{found.images} image{at if over.units == 1 else many}", highlight=False, soft_wrap=True)
    if found.covered < 1:
        console.print(f"Tiles cover {found.covered:.1%} of them; the rest is not scored.", highlight=False)
    shared = [name for name in table.measures if name in TITLES]
    measures = [*shared, *(["mpq"] if table.classes else [])]
    if len(table.predictions) == 1 and 1 < len(table.images) <= SHOWN_IMAGES:
        console.print(_images(table, shared))
    console.print(_rows("", found.mean, measures))
    if table.classes:
        classes = {name: f"pq_{name}" for name in table.classes}
        console.print(_rows("PQ of", found.mean, list(classes.values()), list(classes)))
    if found.minus_best:
        title = f"minus {found.best}"
        compared = [name for name in measures if name in (*COMPARED, "mpq")]
        console.print(_rows(title, found.minus_best, compared, signed=True))
    if out is not None:
        console.print(f"Summary: {out / 'summary.json'}", markup=False, highlight=False, soft_wrap=True)


def _images(table: ScoreTable, measures: Sequence[str]) -> Table:
    shown = _table("image", [TITLES[name] for name in measures])
    columns = [table.measures.index(name) for name in measures]
    for image, row in zip(table.images, table.values[0], strict=True):
        shown.add_row(image, *(_number(None if np.isnan(row[i]) else row[i]) for i in columns))
    return shown


def _rows(
    title: str,
    rows: Mapping[str, Mapping[str, Estimate]],
    measures: Sequence[str],
    titles: Sequence[str] = (),
    signed: bool = False,
) -> Table:
    shown = _table(title, titles or [TITLES[name] for name in measures])
    for name, values in rows.items():
        shown.add_row(name, *(_number(values[measure].value, signed) for measure in measures))
        ends = [(values[measure].low, values[measure].high) for measure in measures]
        if any(low is not None for low, _ in ends):
            intervals = [_interval(low, high, signed) for low, high in ends]
            shown.add_row("", *intervals, style="dim")
    return shown


def _table(first: str, columns: Sequence[str]) -> Table:
    # Eight measures with their intervals must fit into 80 columns.
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(first, overflow="fold", min_width=11)
    for title in columns:
        table.add_column(title, justify="right", overflow="fold")
    return table


def _interval(low: float | None, high: float | None, signed: bool) -> str:
    if low is None or high is None:
        return ""
    return f"{_short(low, '+.2f')} {_short(high, '+.2f')}" if signed else f"{_short(low)}–{_short(high)}"


def _number(value: float | None, signed: bool = False) -> str:
    return "–" if value is None else _short(value, "+.3f" if signed else ".3f")


def _short(value: float, spec: str = ".2f") -> str:
    return f"{value:{spec}}".replace("0.", ".", 1)
