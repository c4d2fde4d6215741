"""What all evaluations print alike on the terminal."""

from collections.abc import Iterable

from rich.table import Table

from dirl.core.intervals import Estimate, UnitKind
from dirl.core.progress import printer


def score_table(titles: Iterable[str]) -> Table:
    """Make a table without rules: names on the left, numbers under these titles."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for title in titles:
        table.add_column(title, justify="right")
    return table


def print_scores(headline: str, table: Table | None, lines: Iterable[object]) -> None:
    """Print a headline, a table and the lines below it."""
    console = printer()
    console.print(headline, soft_wrap=True)
    if table is not None:
        console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True)


def scored_on(items: str, folds: int, groups: str, over: UnitKind) -> str:
    """Return what was held out and how, such as ``60 tiles, 5 folds by slides, intervals over tiles``."""
    return f"{items}, {folds} fold{'s' * (folds > 1)} by {groups}, intervals over {over}"


def three_digits(estimate: Estimate | None) -> str:
    """Return the value, or a dash if there is none."""
    return "–" if estimate is None or estimate.value is None else f"{estimate.value:.3f}"


def with_interval(estimate: Estimate) -> str:
    """Return the value and, if there is one, its interval."""
    return estimate.text(".3f", ".2f")
