"""The outputs of an audit for readers: the HTML page, the leaderboard as CSV, the text of the terminal."""

import csv
import io
from collections.abc import Mapping
from importlib.resources import files

from rich.console import Console
from rich.table import Table

from dirl.audit.findings import PRIMARY, TITLES
from dirl.audit.summary import AuditSummary
from dirl.core.card import Card
from dirl.core.progress import printer
from dirl.core.results import Result
from dirl.report.html import format_number, format_signed, page

# Columns of the leaderboard; the table of all measures has the others.
HEADLINE = ("entropy", "effective_share", "components50", "entropy_tissue", "gini", "patch_mass")
PRINTED = ("entropy", "effective_share", "components50")


def render_page(summary: AuditSummary, card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """Write the report of an audit as HTML, with figures by name as `dirl.report.html.page` takes them."""
    measured = [one.last_block.joint for one in summary.encoders]
    return page(
        files("dirl.audit") / "report.html",
        card,
        images,
        summary=summary,
        lines=[(line, summary.by_name[line.encoder]) for line in summary.leaderboard],
        titles={
            name: title
            for name, title in TITLES.items()
            if any(values[name].value is not None for values in measured)
        },
        headline=HEADLINE,
        primary=PRIMARY,
    )


def leaderboard_csv(summary: AuditSummary) -> str:
    """Write the leaderboard as CSV, see `AuditSummary.rows`; empty where there is no number."""
    rows = [
        {key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()}
        for row in summary.rows()
    ]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def print_audit(result: Result[AuditSummary], console: Console | None = None) -> None:
    """Print the leaderboard with the last block's measures, the verdict, and the report's path."""
    console, summary = console or printer(), result.summary
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("last block, joint map", overflow="fold")
    for title in ("entropy", "tokens used", "nuclei seen", "nuclei log2", "heads differ", "per head"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    for line in summary.leaderboard:
        one = summary.by_name[line.encoder]
        table.add_row(
            one.name,
            *(format_number(one.last_block.joint[name], name) for name in PRINTED),
            format_signed(one.enrichment.joint["nuclei"]),
            format_number(one.last_block.joint["head_diversity"]),
            format_number(one.last_block.per_head["entropy"]),
            line.verdict,
            style="" if one.kind == "encoder" else "dim",
        )
    console.print(table)
    console.print(summary.verdict.headline, markup=False, highlight=False)
    for name, gate in summary.failed.items():
        console.print(f"{name}: {'; '.join(gate.reasons)}.", markup=False, highlight=False)
    for maps in summary.trust:
        stable = ", ".join(f"{name} {format_number(value)}" for name, value in maps.stability.items())
        console.print(
            f"{maps.name}: its map after a change correlates by {stable}; "
            f"AUROC for nuclei {format_number(maps.auroc['nuclei'])}, "
            f"untrained {format_number(maps.auroc_untrained['nuclei'])}.",
            markup=False,
            highlight=False,
        )
    for text in summary.confounder.statements if summary.confounder else ():
        console.print(f"Planted mark: {text}", markup=False, highlight=False)
    console.print(f"Report: {result.path / 'report.html'}", markup=False, highlight=False, soft_wrap=True)
