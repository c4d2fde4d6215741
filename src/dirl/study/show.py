"""A study's result on the terminal: the arms, what the planned contrasts show, and where the table is."""

from rich.console import Console
from rich.table import Table

from dirl.audit.titles import PRIMARY
from dirl.core.progress import printer
from dirl.report.html import number, signed
from dirl.study.run import StudyResult
from dirl.study.summary import TITLES
from dirl.study.table import spread_text
from dirl.study.verdict import judge

# Few enough for a terminal; the table has all.
COLUMNS = ("gini", "components50", "knn", "linear")


def show(result: StudyResult, console: Console | None = None) -> None:
    """Print a line per objective and arm, a sentence per planned contrast, and the table's path."""
    console = console or printer()
    arms = result.summary["arms"]
    shown = [name for name in COLUMNS if any(one["measures"][name]["n"] for one in arms)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("objective", "arm"):
        table.add_column(title, no_wrap=True)
    table.add_column("gate", justify="right")
    table.add_column(TITLES[PRIMARY], justify="right", no_wrap=True)
    for title in (*(TITLES[name] for name in shown), TITLES["enrichment_nuclei"]):
        table.add_column(title, justify="right")
    for one in arms:
        measures = one["measures"]
        table.add_row(
            one["objective"],
            one["arm"],
            f"{one['gate_passed']}/{one['runs']}",
            spread_text(measures[PRIMARY]),
            *(number(measures[name]["mean"]) for name in shown),
            signed(measures["enrichment_nuclei"]["mean"]),
        )
    console.print(table)
    for sentence in judge(result.summary):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"Table: {result.path / 'table.md'}", markup=False, highlight=False, soft_wrap=True)
