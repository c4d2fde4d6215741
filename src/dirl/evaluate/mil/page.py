"""The report of slide models as one HTML file."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dirl.core.card import Card
from dirl.core.intervals import Units
from dirl.evaluate.mil.labels import EVENT, SlideLabels
from dirl.evaluate.mil.show import METRIC_TITLES, MODEL_TITLES
from dirl.evaluate.mil.summary import MilSummary
from dirl.features.baselines import TITLES
from dirl.report.confusion import ClassRow, confusion_rows
from dirl.report.curves import curves_figure
from dirl.report.html import page
from dirl.report.style import encode
from dirl.report.survival import higher_risk, survival_figure


@dataclass(frozen=True)
class HeldOutSlides:
    """What the models predict of the slides that some fold holds out.

    Attributes
    ----------
    labels
        Of all labelled slides.
    folds : ndarray of shape (slides,)
        Of all labelled slides; -1 for one that no fold holds out.
    units
        Of the slides that are held out.
    predictions
        By model, scores (held out, classes), or risks (held out, 1).
    """

    labels: SlideLabels
    folds: NDArray[np.int64]
    units: Units
    predictions: Mapping[str, NDArray[np.float64]]

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether some fold holds a slide out, bool (slides,)."""
        return self.folds >= 0

    @property
    def truth(self) -> NDArray[np.int64]:
        """Classes of the slides that are held out."""
        return self.labels.classes[self.held_out]

    def confusion(self, model: str) -> tuple[ClassRow, ...]:
        """The confusion matrix of a model."""
        return confusion_rows(self.truth, self.predictions[model].argmax(axis=1), self.labels.names)

    def figure(self, model: str) -> Figure:
        """ROC and precision–recall curves of a model, or Kaplan–Meier curves by its risk."""
        scores = self.predictions[model]
        if self.labels.times is None:
            return curves_figure(self.truth, scores, self.labels.names, self.units)
        happened = np.array(self.labels.names)[self.truth] == EVENT
        higher = higher_risk(scores[:, 0], self.folds[self.held_out])
        return survival_figure(self.labels.times[self.held_out], happened, higher)


def render_page(summary: MilSummary, card: Card, slides: HeldOutSlides) -> str:
    """Write the report, with a figure of each model and, for classes, its confusion matrix."""
    survival = slides.labels.times is not None
    return page(
        files("dirl.evaluate.mil") / "report.html",
        card,
        {model: ("svg", encode(slides.figure(model), "svg")) for model in slides.predictions},
        summary=summary,
        titles=TITLES,
        models=MODEL_TITLES,
        metrics={name: title for name, title in METRIC_TITLES.items() if name in summary.metrics},
        confusions={} if survival else {model: slides.confusion(model) for model in slides.predictions},
    )
