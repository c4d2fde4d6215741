"""Printing an audit's result on the terminal."""

from rich.console import Console
from rich.table import Table

from dirl.audit.summary import AuditSummary
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.report.html import number, signed

COLUMNS = ("entropy", "effective_share", "gini", "components50")


def print_audit(result: Result[AuditSummary], console: Console | None = None) -> None:
    """Print the leaderboard with the last block's measures, the verdict, and the report's path."""
    console, summary = console or printer(), result.summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("last block, per head", overflow="fold")
    for title in ("entropy", "tokens used", "Gini", "nuclei seen", "nuclei log2"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for line in summary.leaderboard:
        one = summary.by_name[line.encoder]
        table.add_row(
            one.name,
            *(number(one.last_block.per_head[name], name) for name in COLUMNS),
            signed(one.enrichment.per_head["nuclei"]),
            line.verdict,
            style="" if one.kind == "encoder" else "dim",
        )
    console.print(table)
    console.print(summary.verdict.headline, markup=False, highlight=False)
    for text in summary.confounder.statements if summary.confounder else ():
        console.print(f"Planted mark: {text}", markup=False, highlight=False)
    console.print(f"Report: {result.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
