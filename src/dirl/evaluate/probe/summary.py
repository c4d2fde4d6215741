"""What a probe found: the type of its ``summary.json``."""

from collections.abc import Iterator
from typing import ClassVar

from dirl.core.intervals import Estimate
from dirl.core.results import FlatRecord, Record, Summary
from dirl.evaluate.common.records import ClassScores, Leak, Resampling, SplitRecord


class ProbeScores(FlatRecord):
    """Scores of one set of features.

    Attributes
    ----------
    form
        ``raw`` or ``standardised``.
    width
        Number of features.
    classifiers
        By name: ``knn20`` and so on, and ``linear``.
    costs
        The linear probe's C in each fold.
    few_shot
        Balanced accuracy by the number of labelled tiles of each class.
    retrieval
        ``recall@1`` and so on, and ``map``.
    """

    flat: ClassVar[str] = "classifiers"

    form: str
    width: int
    classifiers: dict[str, ClassScores]
    costs: list[float]
    few_shot: dict[str, Estimate]
    retrieval: dict[str, Estimate]

    @property
    def linear(self) -> ClassScores:
        """Scores of the linear probe."""
        return self.classifiers["linear"]

    def knn(self, k: int) -> ClassScores:
        """Scores of the vote of `k` neighbours."""
        return self.classifiers[f"knn{k}"]


class JointScores(FlatRecord):
    """Scores of the features and the colour histogram side by side."""

    flat: ClassVar[str] = "classifiers"

    width: int
    classifiers: dict[str, ClassScores]


class DuplicatePairs(Record):
    """How many near-duplicates lie in different folds, and tile ids of the first of them."""

    pairs: int
    first_pairs: list[tuple[str, str]]


class Gate(Record):
    """Whether the features beat their baselines; see `dirl.evaluate.probe.gate.labelled_gate`.

    Attributes
    ----------
    passed, form
        None where there are no baselines.
    """

    passed: bool | None
    form: str | None
    over_untrained: Estimate | None = None
    over_histogram: Estimate | None = None
    joint_over_histogram: Estimate | None = None
    statement: str


class ProbeSummary(Summary):
    """What `dirl probe` writes to ``summary.json``.

    Attributes
    ----------
    results
        Scores of the features and of each baseline, by name.
    joint, leak, duplicates
        None where there are no baselines.
    """

    features: str
    encoder: str
    encoder_digest: str
    labels: str
    classes: dict[str, int]
    tiles: int
    split: SplitRecord
    interval: Resampling
    chance: float
    unlabelled: int
    unknown: int
    metrics: list[str]
    neighbours: list[int]
    results: dict[str, ProbeScores]
    joint: JointScores | None
    leak: Leak | None
    duplicates: DuplicatePairs | None
    gate: Gate
    notes: list[str]

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and classes."""
        return {"tiles": self.tiles, "classes": len(self.classes)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each set of features, classifier and metric."""
        return list(self._rows())

    def _rows(self) -> Iterator[dict[str, object]]:
        for name, scores in self.results.items():
            for classifier, each in scores.classifiers.items():
                for metric, found in each:
                    yield {"features": name, "classifier": classifier, "metric": metric, **vars(found)}
