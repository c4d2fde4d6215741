"""What the summaries of several evaluations hold alike."""

from typing import TypedDict

from dirl.core.intervals import Estimate, UnitKind
from dirl.core.results import Record


class SplitRecord(Record):
    """A split: see `dirl.evaluate.common.splits.Split`."""

    scheme: str
    folds: int
    groups: int
    digest: str


class Resampling(Record):
    """How intervals were made: their level, the number of resamples, and the units that were drawn."""

    level: float
    resamples: int
    over: UnitKind
    units: int


class TaskFacts(TypedDict):
    """What every summary says of its task."""

    classes: dict[str, int]
    tiles: int
    split: SplitRecord
    interval: Resampling
    chance: float


class ClassScores(Record):
    """Scores of one classifier, with intervals."""

    balanced_accuracy: Estimate
    macro_f1: Estimate
    macro_auroc: Estimate


class Chosen(Record):
    """Learning rate and epochs that were chosen in one fold."""

    learning_rate: float
    epochs: int


class Leak(Record):
    """How well colour alone tells the classes: balanced accuracy of the histogram's nearest neighbours."""

    histogram_knn: float
    threshold: float
    flagged: bool
