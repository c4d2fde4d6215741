"""What a probe found: the type of its ``summary.json``."""

from typing import ClassVar, Literal

from dirl.core.intervals import Estimate
from dirl.core.results import FlatRecord, Record, Summary
from dirl.evaluate.common.records import ClassScores, Leak, TaskSummary

Form = Literal["raw", "standardised"]
GateForm = Literal["full", "weaker"]


class ProbeScores(FlatRecord):
    """Scores of one set of features.

    Attributes
    ----------
    form
        Of the features; baselines get the better one.
    width
        Number of features.
    classifiers
        By name: ``knn20`` and so on, ``linear``, and evaluators of your own.
    costs
        The linear probe's C in each fold.
    few_shot
        Balanced accuracy by the number of labelled tiles of each class.
    retrieval
        ``recall@1`` and so on, and ``map``.
    """

    flat: ClassVar[str] = "classifiers"

    form: Form
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
    passed
        None where there are no baselines.
    form
        None where there are no baselines, or the gate is not passed.
    """

    passed: bool | None
    form: GateForm | None
    over_untrained: Estimate | None = None
    over_histogram: Estimate | None = None
    joint_over_histogram: Estimate | None = None
    statement: str


class _OfFeatures(Summary):
    """The features that were scored: the first key of ``summary.json``."""

    features: str


class ProbeSummary(TaskSummary, _OfFeatures):
    """What `dirl probe` writes to ``summary.json``.

    Attributes
    ----------
    results
        Scores of the features and of each baseline, by name.
    joint, leak, duplicates
        None where there are no baselines.
    """

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

    def rows(self) -> list[dict[str, object]]:
        """One row for each set of features, classifier and metric."""
        return [
            {"features": name, "classifier": classifier, "metric": metric, **vars(found)}
            for name, scores in self.results.items()
            for classifier, each in scores.classifiers.items()
            for metric, found in each
        ]
