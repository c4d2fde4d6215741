"""What `dirl tokens` reports: the type of its ``summary.json``."""

from dirl.core.intervals import Estimate, UnitKind
from dirl.core.results import Record, Summary
from dirl.evaluate.common.records import Resampling


class NucleiScores(Record):
    """How well a linear head tells tokens on nuclei from all others.

    Attributes
    ----------
    auroc, over_rgb
        Over all tokens, and the difference to the baseline of colours around a token.
    average_precision
        Mean over units.
    dice
        Of pixels, after upsampling.
    """

    auroc: Estimate
    average_precision: Estimate
    dice: Estimate
    over_rgb: Estimate | None


class TypeScores(Record):
    """How well a linear head names the class of a nucleus from the mean of its tokens."""

    balanced_accuracy: Estimate
    macro_f1: Estimate
    over_rgb: Estimate | None


class TokenScores(Record):
    """Scores of one set of tokens; `types` is None without classes of nuclei."""

    width: int
    nuclei: NucleiScores
    types: TypeScores | None


class TokensSummary(Summary):
    """What `dirl tokens` writes to ``summary.json``.

    Attributes
    ----------
    results
        By name: the encoder's tokens, those of its untrained copy, and two baselines of colour.
    prevalence
        Share of the tokens of which nuclei cover at least `share`.
    """

    encoder: str
    encoder_digest: str
    store: str
    cells: str
    tiles: int
    tokens: int
    token_um: float
    share: float
    prevalence: float
    classes: dict[str, int]
    folds: int
    groups: UnitKind
    interval: Resampling
    results: dict[str, TokenScores]
    notes: list[str]

    @property
    def counts(self) -> dict[str, object]:
        """Number of tiles and of typed nuclei."""
        return {"tiles": self.tiles, "nuclei": sum(self.classes.values())}

    def rows(self) -> list[dict[str, object]]:
        """One row for each set of tokens and score."""
        return [
            {"tokens": name, "task": task, "score": score, **vars(value)}
            for name, one in self.results.items()
            for task, scores in (("nuclei", one.nuclei), ("types", one.types))
            for score, value in (scores or ())
            if value is not None
        ]
