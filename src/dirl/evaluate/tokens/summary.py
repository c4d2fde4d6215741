"""What `dirl tokens` reports: the type of its ``summary.json``."""

from collections.abc import Iterator

from dirl.core.intervals import Estimate, UnitKind
from dirl.core.results import Record, Summary
from dirl.evaluate.common.records import Resampling


class AreaScores(Record):
    """How well a linear head tells the tokens of an area, such as nuclei, from all others.

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


class OneType(Record):
    """Scores of one class of nuclei: how many there are, and how they are predicted."""

    n: int
    recall: Estimate
    precision: Estimate
    f1: Estimate


class TypeScores(Record):
    """How well a linear head names the class of a nucleus from the mean of its tokens.

    Attributes
    ----------
    over_rgb
        Difference in balanced accuracy to the baseline of colours around a token.
    classes
        Scores of each class, by name.
    """

    balanced_accuracy: Estimate
    macro_f1: Estimate
    over_rgb: Estimate | None
    classes: dict[str, OneType]


class TokenScores(Record):
    """Scores of one set of tokens.

    Attributes
    ----------
    areas
        By name: ``nuclei``, or each class of the masks.
    types
        None without classes of nuclei.
    """

    width: int
    areas: dict[str, AreaScores]
    types: TypeScores | None


class TokensSummary(Summary):
    """What `dirl tokens` writes to ``summary.json``.

    Attributes
    ----------
    cells, masks
        What was scored: the name of the cells, or the masks. The other is None.
    prevalence
        By area, the share of the tokens of which it covers at least `share`.
    classes
        Number of nuclei by class.
    results
        By name: the encoder's tokens and three baselines, unless these were not asked for. They are the
        tokens of its untrained copy, the colours of a token, and those with its neighbours.
    """

    encoder: str
    encoder_digest: str
    store: str
    cells: str | None
    masks: str | None
    tiles: int
    tokens: int
    token_um: float
    share: float
    prevalence: dict[str, float]
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
        """One row for each set of tokens, task and score; tasks are areas, types and ``types: CLASS``."""
        return [
            {"tokens": name, "task": task, "score": score, **vars(value)}
            for name, one in self.results.items()
            for task, scores in _tasks(one)
            for score, value in scores
            if isinstance(value, Estimate)
        ]


def _tasks(scores: TokenScores) -> Iterator[tuple[str, Record]]:
    yield from scores.areas.items()
    if scores.types is not None:
        yield "types", scores.types
        yield from ((f"types: {name}", one) for name, one in scores.types.classes.items())
