"""What a fine-tuning found: the type of its ``summary.json``."""

from dirl.core.intervals import Estimate
from dirl.core.results import Record
from dirl.evaluate.common.records import Chosen, ClassScores, Leak, TaskSummary

# Names of the scores: the encoder fine-tuned, its untrained twin fine-tuned alike, and itself as it is.
FINETUNED, UNTRAINED, FROZEN = "finetuned", "untrained", "frozen"


class TunedScores(ClassScores):
    """Scores of a fine-tuned encoder, and its differences in balanced accuracy."""

    chosen: list[Chosen]
    over_frozen: Estimate
    over_untrained: Estimate | None = None


class FrozenScores(ClassScores):
    """Scores of the linear probe on the encoder as it is, with its C in each fold."""

    costs: list[float]


class FinetuneScores(Record):
    """Scores of the fine-tuned encoder and of its baselines; random weights have no untrained one."""

    finetuned: TunedScores
    untrained: TunedScores | None = None
    frozen: FrozenScores

    @property
    def by_name(self) -> dict[str, TunedScores | FrozenScores]:
        """All scores by name."""
        return {name: each for name, each in self if each is not None}


class FinetuneSummary(TaskSummary):
    """What `dirl finetune` writes to ``summary.json``."""

    unlabelled: int
    unknown: int
    metrics: list[str]
    results: FinetuneScores
    leak: Leak
    notes: list[str]

    def rows(self) -> list[dict[str, object]]:
        """One row for each model and metric."""
        return [
            {"model": name, "metric": metric, **vars(getattr(scores, metric))}
            for name, scores in self.results.by_name.items()
            for metric in self.metrics
        ]
