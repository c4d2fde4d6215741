"""An audit's result on the terminal: a small table, the verdict, and where the report is."""

from rich.console import Console
from rich.table import Table

from dirl.audit.run import AuditResult
from dirl.core.progress import printer
from dirl.report.html import number, signed

COLUMNS = ("entropy", "effective_share", "gini", "components50")


def show(result: AuditResult, console: Console | None = None) -> None:
    """Print the leaderboard with the last block's measures, the verdict, and the report's path."""
    console = console or printer()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("last block, per head", overflow="fold")
    for title in ("entropy", "tokens used", "Gini", "nuclei seen", "nuclei log2"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    encoders = {one["name"]: one for one in result.summary["encoders"]}
    for line in result.summary["leaderboard"]:
        one = encoders[line["encoder"]]
        table.add_row(
            one["name"],
            *(number(one["last_block"]["per_head"][name], name) for name in COLUMNS),
            signed(one["enrichment"]["per_head"]["nuclei"]),
            line["verdict"],
            style="" if one["kind"] == "encoder" else "dim",
        )
    console.print(table)
    console.print(result.summary["verdict"]["headline"], markup=False, highlight=False)
    for line in result.summary.get("confounder", {}).get("statements", ()):
        console.print(f"Planted mark: {line}", markup=False, highlight=False)
    console.print(f"Report: {result.report}", markup=False, highlight=False, soft_wrap=True)
