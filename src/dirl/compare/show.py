"""A comparison on the terminal."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from dirl.compare.run import Comparison
from dirl.compare.tables import rows_of


def show(result: Comparison, console: Console | None = None) -> None:
    """Print all entries, best first, with their difference to the first that was named."""
    console = console or Console()
    summary = result.summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for how in summary["measures"]:
        table.add_column(how, justify="right")
        table.add_column("over the first", justify="right")
    for row in rows_of(summary):
        cells = [
            text
            for each in row["measures"].values()
            for text in (_interval(each["score"]), _interval(each["over_first"], signed=True))
        ]
        table.add_row(row["name"], *cells, style="dim" if row["floor"] else "")
    console.print(
        f"Balanced accuracy, chance {summary['chance']:.3f}; the first is {summary['entries'][0]['name']}. "
        f"{summary['items']} {'tiles' if summary['of'] == 'probe' else 'slides'}, split "
        f"{summary['split']['digest'][:12]} by {summary['split']['scheme']}, intervals over "
        f"{summary['interval']['over']}.",
        highlight=False,
        soft_wrap=True,
    )
    console.print(table)
    console.print(f"Tables and figures: {result.path}", markup=False, highlight=False, soft_wrap=True)


def _interval(value: Mapping[str, float | None] | None, *, signed: bool = False) -> str:
    if value is None or value["value"] is None:
        return "–"
    form = "+.3f" if signed else ".3f"
    text = format(value["value"], form)
    if value["low"] is None or value["high"] is None:
        return text
    return f"{text} ({format(value['low'], form[:-2] + '2f')} to {format(value['high'], form[:-2] + '2f')})"
