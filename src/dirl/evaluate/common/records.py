"""Records that the summaries of several evaluations share."""

from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from dirl.core.intervals import Estimate, UnitKind, Units
from dirl.core.results import Record, Summary

SourceKind = Literal["groups", "patients", "slides"]
"""What tiles or slides come from."""

Scheme = Literal["groups", "patients", "slides", "stain", "folds"]
"""What a split keeps together: sources, clusters of stain, or the user's own folds."""


class SplitRecord(Record):
    """A split: see `dirl.evaluate.common.splits.Split`."""

    scheme: Scheme
    folds: int
    groups: int
    digest: str


class Resampling(Record):
    """How intervals were made: their level, the number of resamples, and the units that were drawn."""

    level: float
    resamples: int
    over: UnitKind
    units: int

    @classmethod
    def of(cls, units: Units) -> "Resampling":
        """Describe 95 % intervals over units."""
        return cls(level=0.95, resamples=units.resamples, over=units.kind, units=len(units))


class ClassScores(Record):
    """Scores of one classifier, with intervals."""

    balanced_accuracy: Estimate
    macro_f1: Estimate
    macro_auroc: Estimate


class Chosen(Record):
    """Learning rate and epochs that were chosen in one fold."""

    learning_rate: float
    epochs: int

    @classmethod
    def lowest(cls, losses: NDArray[np.float64], rates: Sequence[float]) -> "Chosen":
        """Choose the lowest of the validation losses of shape (rates, epochs)."""
        rate, epoch = np.unravel_index(losses.argmin(), losses.shape)
        return cls(learning_rate=rates[int(rate)], epochs=int(epoch) + 1)


class Leak(Record):
    """How well colour alone tells the classes: balanced accuracy of the histogram's nearest neighbours."""

    histogram_knn: float
    threshold: float
    flagged: bool


class TaskFacts(TypedDict):
    """What every summary says of its task."""

    classes: dict[str, int]
    tiles: int
    split: SplitRecord
    interval: Resampling
    chance: float


class TaskSummary(Summary):
    """What every evaluation of labelled tiles writes first: the encoder, the labels and the task."""

    encoder: str
    encoder_digest: str
    labels: str
    classes: dict[str, int]
    tiles: int
    split: SplitRecord
    interval: Resampling
    chance: float

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and classes."""
        return {"tiles": self.tiles, "classes": len(self.classes)}
