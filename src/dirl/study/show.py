"""Printing a study's result on the terminal."""

from rich.console import Console
from rich.table import Table

from dirl.audit.titles import PRIMARY
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.report.html import number, signed
from dirl.study.summarise import TITLES
from dirl.study.summary import StudySummary
from dirl.study.table import mean_sd_text
from dirl.study.verdict import sentences

# Few enough for a terminal; the table has all.
COLUMNS = ("gini", "components50", "knn", "linear")


def print_study(result: Result[StudySummary], console: Console | None = None) -> None:
    """Print a line per objective and arm, a sentence per planned contrast, and the table's path."""
    console, summary = console or printer(), result.summary
    shown = [name for name in COLUMNS if any(one.measures[name].n for one in summary.arms)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("objective", "arm"):
        table.add_column(title, no_wrap=True)
    table.add_column("gate", justify="right")
    table.add_column(TITLES[PRIMARY], justify="right", no_wrap=True)
    for title in (*(TITLES[name] for name in shown), TITLES["enrichment_nuclei"]):
        table.add_column(title, justify="right")
    for one in summary.arms:
        table.add_row(
            one.objective,
            one.arm,
            f"{one.gate_passed}/{one.runs}",
            mean_sd_text(one.measures[PRIMARY]),
            *(number(one.measures[name].mean) for name in shown),
            signed(one.measures["enrichment_nuclei"].mean),
        )
    console.print(table)
    for sentence in sentences(summary):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"Table: {result.path / 'table.md'}", markup=False, highlight=False, soft_wrap=True)
