"""What slide models found: the type of their ``summary.json``."""

from typing import ClassVar, Literal

from dirl.core.intervals import Estimate
from dirl.core.results import FlatRecord, Record, Summary
from dirl.evaluate.common.records import Chosen, Resampling, Scheme
from dirl.features.baselines import FEATURES


class SlideSplit(Record):
    """A nested split of slides: see `dirl.evaluate.mil.nested.Folds`."""

    scheme: Scheme
    folds: int
    inner_folds: list[int]
    groups: int
    digest: str


class SlideScores(FlatRecord):
    """Scores of one slide model.

    Attributes
    ----------
    metrics
        Balanced accuracy, macro F1 and macro AUROC, or concordance.
    chosen
        What was chosen in each fold.
    over_mean
        Difference in the first metric to mean pooling; absent for mean pooling itself.
    """

    flat: ClassVar[str] = "metrics"

    metrics: dict[str, Estimate]
    chosen: list[Chosen]
    over_mean: Estimate | None = None


class MilSummary(Summary):
    """What `dirl mil` writes to ``summary.json``.

    Attributes
    ----------
    left_out
        Slides that were left out, by the reason.
    results
        By features or baseline, then by model.
    """

    features: str
    encoder: str
    labels: str
    task: Literal["classification", "survival"]
    classes: dict[str, int]
    slides: int
    tiles: int
    unlabelled: int
    left_out: dict[str, list[str]]
    split: SlideSplit
    interval: Resampling
    metrics: list[str]
    chance: float
    results: dict[str, dict[str, SlideScores]]
    notes: list[str]

    @property
    def models(self) -> dict[str, SlideScores]:
        """Scores of the models on the features themselves."""
        return self.results[FEATURES]

    @property
    def counts(self) -> dict[str, object]:
        """Slides, tiles and models."""
        return {"slides": self.slides, "tiles": self.tiles, "models": len(self.models)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each set of features, model and metric."""
        return [
            {"features": name, "model": model, "metric": metric, **vars(estimate)}
            for name, models in self.results.items()
            for model, scores in models.items()
            for metric, estimate in scores.metrics.items()
        ]
