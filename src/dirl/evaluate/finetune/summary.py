"""What a fine-tuning found: the type of its ``summary.json``."""

from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary
from dirl.evaluate.common.records import Chosen, ClassScores, Leak, Resampling, SplitRecord


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


class FinetuneSummary(Summary):
    """What `dirl finetune` writes to ``summary.json``."""

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
    results: FinetuneScores
    leak: Leak
    notes: list[str]

    @property
    def counts(self) -> dict[str, object]:
        """Tiles and classes."""
        return {"tiles": self.tiles, "classes": len(self.classes)}

    def rows(self) -> list[dict[str, object]]:
        """One row for each model and metric."""
        return [
            {"model": name, "metric": metric, **vars(getattr(scores, metric))}
            for name, scores in self.results.by_name.items()
            for metric in self.metrics
        ]
