"""The report of an audit: one HTML page."""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from dirl.audit.titles import PRIMARY, TITLES
from dirl.core.provenance import Card
from dirl.report.html import page

# Columns of the leaderboard; the table of all measures has the others.
HEADLINE = ("entropy", "effective_share", "gini", "top10_mass", "components50", "patch_mass")


def render(summary: Mapping[str, Any], card: Card, images: Mapping[str, tuple[str, bytes]]) -> str:
    """Write the report of an audit.

    Parameters
    ----------
    summary
        What `summary.json` holds.
    card
        The audit's card.
    images
        Figures by name, as `dirl.report.html.page` takes them.
    """
    titles = {name: title for name, title in TITLES.items() if _measured(summary, name)}
    places = {one["name"]: one for one in summary["encoders"]}
    return page(
        files("dirl.audit") / "report.html",
        card,
        images,
        summary=summary,
        lines=[(line, places[line["encoder"]]) for line in summary["leaderboard"]],
        titles=titles,
        headline=HEADLINE,
        primary=PRIMARY,
    )


def _measured(summary: Mapping[str, Any], name: str) -> bool:
    found = [one["last_block"]["heads_averaged"][name]["value"] for one in summary["encoders"]]
    return any(value is not None for value in found)
