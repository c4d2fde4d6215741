"""The report of a probe as one HTML file."""

from collections.abc import Sequence
from importlib.resources import files

from dirl.core.card import Card
from dirl.evaluate.probe.summary import ProbeSummary
from dirl.features.baselines import TITLES
from dirl.report.confusion import ClassRow
from dirl.report.html import page


def render_page(summary: ProbeSummary, card: Card, classes: Sequence[ClassRow]) -> str:
    """Write the report; `classes` are those of the linear probe's held-out predictions on the features."""
    return page(
        files("dirl.evaluate.probe") / "report.html",
        card,
        {},
        summary=summary,
        titles=TITLES,
        classes=classes,
    )
