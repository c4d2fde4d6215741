"""What a scoring of nuclei found: the type of its ``summary.json``."""

from typing import Literal

from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary


class Bootstrap(Record):
    """How intervals were made: the units that were drawn, and how often."""

    over: Literal["slides", "images"]
    units: int
    resamples: int
    level: float


class ScoreSummary(Summary):
    """What `dirl cells-score` writes to ``summary.json``.

    Attributes
    ----------
    covered
        Share of the images that was scored.
    mean
        Means over images by prediction and measure.
    best
        The prediction of highest mean PQ.
    minus_best
        Differences of the others to the best, paired.
    """

    mpp: float | None
    images: int
    covered: float
    interval: Bootstrap
    mean: dict[str, dict[str, Estimate]]
    best: str
    minus_best: dict[str, dict[str, Estimate]]

    @property
    def counts(self) -> dict[str, object]:
        """Images and predictions."""
        return {"images": self.images, "predictions": len(self.mean)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each prediction and measure."""
        return [
            {"prediction": name, "measure": measure, **vars(estimate)}
            for name, measures in self.mean.items()
            for measure, estimate in measures.items()
        ]
