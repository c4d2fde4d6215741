"""A comparison on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from dirl.core.progress import printer
from dirl.evaluate.compare.run import Comparison
from dirl.evaluate.compare.statistics import LEVEL
from dirl.evaluate.compare.tables import rows_of


def show(result: Comparison, console: Console | None = None) -> None:
    """Print the scores of all entries, best first; a star where one differs from the first that was named."""
    console = console or printer()
    summary = result.summary
    first = summary["entries"][0]["name"]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for how in summary["measures"]:
        table.add_column(how, justify="right")
    for row in rows_of(summary):
        cells = [
            _score(found, summary["metric"], row["name"], first) for found in summary["measures"].values()
        ]
        table.add_row(row["name"], *cells, style="dim" if row["baseline"] else "")
    metric = summary["metric"].replace("_", " ").capitalize()
    console.print(
        f"{metric}, chance {summary['chance']:.3f}; * differs from {first} at 5 % by Holm's "
        f"correction. {summary['items']} {summary['of']}, split "
        f"{summary['split']['digest'][:12]} by {summary['split']['scheme']}, intervals over "
        f"{summary['interval']['over']}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    console.print(
        f"With intervals and all differences: {result.path / 'table.html'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _score(found: Mapping[str, Any], metric: str, name: str, first: str) -> str:
    value = found["entries"][name][metric]["value"]
    pair = next((p for p in found["pairs"] if {p["one"], p["other"]} == {name, first}), None)
    apart = pair is not None and pair["p_holm"] is not None and pair["p_holm"] < LEVEL
    return f"{value:.3f}{'*' if apart else ' '}"
