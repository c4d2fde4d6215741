"""What a comparison found: the type of its ``summary.json``."""

from typing import Literal

from dirl.core.intervals import Estimate
from dirl.core.results import Record, Summary
from dirl.evaluate.common.records import Resampling, Scheme

ItemKind = Literal["tiles", "slides"]


class EntryName(Record):
    """A line of the comparison; a baseline is shown for comparison alone."""

    name: str
    baseline: bool


class Pair(Record):
    """The difference of two entries, one minus the other.

    Attributes
    ----------
    cohens_h
        See `dirl.evaluate.compare.statistics.cohens_h`.
    p, p_holm
        Two-sided p by the bootstrap, and by Holm's correction over all pairs.
    """

    one: str
    other: str
    difference: float | None
    low: float | None
    high: float | None
    cohens_h: float
    p: float | None
    p_holm: float | None

    def is_of(self, one: str, other: str) -> bool:
        """Whether it is the pair of these two, in either order."""
        return {self.one, self.other} == {one, other}

    def minus(self, other: str) -> Estimate:
        """Difference of the pair's first or second entry to `other`, the second or first one."""
        if self.other == other:
            return Estimate(self.difference, self.low, self.high)
        value, low, high = (None if v is None else -v for v in (self.difference, self.high, self.low))
        return Estimate(value, low, high)


class MeasureScores(Record):
    """All entries by one measure.

    Attributes
    ----------
    entries
        Estimates by entry and metric.
    pairs
        Every two entries.
    best
        Name of the best entry.
    cliques
        See `dirl.evaluate.compare.statistics.cliques`.
    """

    entries: dict[str, dict[str, Estimate]]
    pairs: list[Pair]
    best: str
    cliques: list[list[str]]

    def pair(self, one: str, other: str) -> Pair | None:
        """Return the pair of two entries; None if they are the same."""
        return next((pair for pair in self.pairs if pair.is_of(one, other)), None)


class SharedSplit(Record):
    """The split that all entries were scored on."""

    scheme: Scheme
    digest: str


class CompareSummary(Summary):
    """What `dirl compare` writes to ``summary.json``.

    Attributes
    ----------
    of
        What was scored.
    metric
        The metric by which entries are compared.
    measures
        By classifier, or ``slide``.
    """

    of: ItemKind
    entries: list[EntryName]
    items: int
    metric: str
    chance: float
    split: SharedSplit
    interval: Resampling
    measures: dict[str, MeasureScores]

    @property
    def counts(self) -> dict[str, object]:
        """Entries and items."""
        return {"entries": len(self.entries), "items": self.items}

    def rows(self) -> list[dict[str, object]]:
        """One row for each entry, measure and metric, as in ``table.csv``."""
        return [
            {"name": e.name, "baseline": e.baseline, "measure": how, "metric": metric, **vars(estimate)}
            for e in self.entries
            for how, found in self.measures.items()
            for metric, estimate in found.entries[e.name].items()
        ]

    def estimate(self, how: str, name: str) -> Estimate:
        """Estimate of an entry's `metric` by a measure."""
        return self.measures[how].entries[name][self.metric]
