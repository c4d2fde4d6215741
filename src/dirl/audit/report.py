"""The report of an audit: one HTML page."""

from collections.abc import Mapping
from importlib.resources import files

from dirl.audit.summary import AuditSummary
from dirl.audit.titles import PRIMARY, TITLES
from dirl.core.card import Card
from dirl.report.html import page

# Columns of the leaderboard; the table of all measures has the others.
HEADLINE = ("entropy", "effective_share", "gini", "top10_mass", "components50", "patch_mass")


def render(summary: AuditSummary, card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """Write the report of an audit.

    Parameters
    ----------
    summary
        Content of `summary.json`.
    card
        The audit's card.
    images
        Figures by name, as `dirl.report.html.page` takes them.
    """
    measured = [one.last_block.heads_averaged for one in summary.encoders]
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
