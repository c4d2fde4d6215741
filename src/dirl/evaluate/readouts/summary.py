"""What `dirl readouts` reports: the type of its ``summary.json``."""

from typing import ClassVar

from dirl.core.intervals import Estimate
from dirl.core.results import FlatRecord
from dirl.evaluate.common.records import ClassScores, TaskSummary


class ReadoutScores(FlatRecord):
    """Scores of one readout.

    Attributes
    ----------
    width, kept
        Number of features, and of those that are kept.
    over_class
        Difference to the class token in balanced accuracy, by classifier. None for the class token itself,
        or if the encoder has none.
    classifiers
        By name: ``knn20`` and so on, and ``linear``.
    few_shot
        Balanced accuracy by the number of labelled tiles of each class.
    """

    flat: ClassVar[str] = "classifiers"

    width: int
    kept: int
    over_class: dict[str, Estimate] | None
    classifiers: dict[str, ClassScores]
    few_shot: dict[str, Estimate]


class ReadoutsSummary(TaskSummary):
    """What `dirl readouts` writes to ``summary.json``.

    Attributes
    ----------
    cells
        Name of the cells that make the regions; None without regions.
    width
        Number of features that each readout keeps.
    results
        By readout, and of the colour histogram as the baseline.
    """

    cells: str | None
    width: int
    neighbours: list[int]
    results: dict[str, ReadoutScores]
    notes: list[str]

    def rows(self) -> list[dict[str, object]]:
        """One row for each readout, classifier and metric."""
        return [
            {"readout": name, "classifier": classifier, "metric": metric, **vars(found)}
            for name, scores in self.results.items()
            for classifier, each in scores.classifiers.items()
            for metric, found in each
        ]
