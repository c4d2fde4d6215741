"""What a measurement of robustness found: the type of its ``summary.json``."""

from dirl.config.stages import Damage, Severity
from dirl.core.intervals import Estimate
from dirl.core.results import Record
from dirl.evaluate.common.records import TaskSummary
from dirl.evaluate.robust.conditions import Condition


class ConditionScores(Record):
    """Scores under one condition.

    Attributes
    ----------
    knn, linear
        Balanced accuracy.
    knn_change, linear_change
        Its difference from the undamaged tiles, paired.
    drift
        See `dirl.evaluate.robust.score.drift`.
    drift_share
        Drift over the mean distance between different undamaged tiles.
    """

    knn: Estimate
    linear: Estimate
    knn_change: Estimate
    linear_change: Estimate
    drift: Estimate
    drift_share: Estimate


class Accuracies(Record):
    """A number for each classifier."""

    knn: float
    linear: float


class LeftOutScores(Record):
    """Balanced accuracy if each centre is held out in turn: over all centres, and of each."""

    knn: Estimate
    linear: Estimate
    by_centre: dict[str, Accuracies]


class CentreNaming(Record):
    """Balanced accuracy of a probe that names the centre."""

    knn: Estimate
    linear: Estimate
    chance: float


class CentreScores(Record):
    """What the centre does to features. What could not be measured is None, with the reason in `notes`."""

    centres: list[str]
    notes: list[str]
    robustness_index: Estimate | None
    left_out: LeftOutScores | None
    named: CentreNaming | None


class RobustScores(Record):
    """One set of features: its scores by condition, and the share of the score that each damage keeps."""

    conditions: dict[str, ConditionScores]
    relative: dict[str, Accuracies]
    centres: CentreScores | None = None

    def at(self, condition: Condition) -> ConditionScores:
        """Scores under a condition."""
        return self.conditions[str(condition)]


class RobustSummary(TaskSummary):
    """What `dirl robust` writes to ``summary.json``; `results` by features and baselines."""

    neighbours: int
    damage: list[Damage]
    severities: list[Severity]
    results: dict[str, RobustScores]
    notes: list[str]

    @property
    def counts(self) -> dict[str, object]:
        """Tiles that were held out, all labelled tiles, and conditions."""
        conditions = next(iter(self.results.values())).conditions
        labelled = sum(self.classes.values())
        return {"tiles": self.tiles, "labelled_tiles": labelled, "conditions": len(conditions)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each set of features, condition and measure."""
        return [
            {"features": name, "condition": condition, "measure": measure, **vars(estimate)}
            for name, scores in self.results.items()
            for condition, found in scores.conditions.items()
            for measure, estimate in found
        ]
