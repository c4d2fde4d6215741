"""Balanced accuracy, or concordance, of every entry, and all differences, paired on the same drawn units."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dirl.core.intervals import Units, estimate, holm
from dirl.evaluate.common.scores import SURVIVAL_METRICS, Scored, concordance, score_classes
from dirl.evaluate.compare.entries import Comparable
from dirl.evaluate.compare.summary import MeasureScores, Pair

# The first is what is compared.
METRICS = ("balanced_accuracy", "macro_f1")
LEVEL = 0.05


def measures_of(compared: Comparable) -> list[str]:
    """Return the measures that all entries have: the first result's first one, then fewer neighbours."""
    first, *others = compared.entries
    shared = [how for how in first.predicted if all(how in entry.predicted for entry in others)]
    return shared[:1] + sorted(shared[1:], key=_neighbours, reverse=True)


def _neighbours(how: str) -> int:
    """The number of neighbours; 0 of another measure, so that it is last."""
    k = how.removeprefix("knn")
    return int(k) if k.isdecimal() else 0


def compare_all(compared: Comparable, how: str, resamples: int, seed: int) -> MeasureScores:
    """Score all entries by the measure `how`, and compare each with each, on the same resampled units."""
    _, of_item = np.unique(compared.units, return_inverse=True)
    units = Units(compared.over, of_item.astype(np.int64), resamples, seed)
    scored = _by_risk(compared, how, units) if compared.survival else _by_class(compared, how, units)
    pairs = _pairs(scored)
    order = sorted(scored, key=lambda name: -scored[name].first[0])
    metrics = metrics_of(compared)
    found = {name: each.estimates() for name, each in scored.items()}
    return MeasureScores(
        entries={name: {metric: each[metric] for metric in metrics} for name, each in found.items()},
        pairs=pairs,
        best=order[0],
        cliques=cliques(order, pairs),
    )


def metrics_of(compared: Comparable) -> tuple[str, ...]:
    """Return the metrics that entries are scored by; they are compared by the first."""
    return SURVIVAL_METRICS if compared.survival else METRICS


def _by_class(compared: Comparable, how: str, units: Units) -> dict[str, Scored]:
    classes = np.unique(np.concatenate([compared.truth, *(e.predicted[how] for e in compared.entries)]))
    truth = np.searchsorted(classes, compared.truth)
    chosen = {entry.name: np.searchsorted(classes, entry.predicted[how]) for entry in compared.entries}
    return {name: score_classes(truth, np.eye(len(classes))[each], units) for name, each in chosen.items()}


def _by_risk(compared: Comparable, how: str, units: Units) -> dict[str, Scored]:
    survival = compared.survival
    assert survival is not None
    what = survival.times, survival.events, survival.folds
    return {
        entry.name: concordance(np.asarray(entry.predicted[how], np.float64), *what, units)
        for entry in compared.entries
    }


def cohens_h(one: float, other: float) -> float:
    """Effect size of a difference of two proportions: .2 is small, .5 medium, .8 large (Cohen, 1988)."""
    return float(2 * np.arcsin(np.sqrt(one)) - 2 * np.arcsin(np.sqrt(other)))


def cliques(order: list[str], pairs: Sequence[Pair]) -> list[list[str]]:
    """Group neighbours in the ranking that do not differ, as a critical-difference diagram does.

    Of the names, best first, these are the largest runs of at least two of which no two differ; none lies in
    another.
    """
    apart = {frozenset((pair.one, pair.other)) for pair in pairs if differ(pair)}
    found: list[tuple[int, int]] = []
    for start in range(len(order)):
        end = start + 1
        while end < len(order) and all(
            frozenset((order[end], name)) not in apart for name in order[start:end]
        ):
            end += 1
        if end - start > 1 and not (found and end <= found[-1][1]):
            found.append((start, end))
    return [order[start:end] for start, end in found]


def differ(pair: Pair | None) -> bool:
    """Whether two entries differ at `LEVEL` by Holm's correction."""
    return pair is not None and pair.p_holm is not None and pair.p_holm < LEVEL


def _pairs(scored: Mapping[str, Scored]) -> list[Pair]:
    names = list(combinations(scored, 2))
    drawn = [scored[one].first[1] - scored[other].first[1] for one, other in names]
    ps = [two_sided(each) for each in drawn]
    pairs = []
    for (one, other), resampled, p, adjusted in zip(names, drawn, ps, holm(ps), strict=True):
        a, b = scored[one].first[0], scored[other].first[0]
        difference = estimate(a - b, resampled)
        pairs.append(
            Pair(
                one=one,
                other=other,
                difference=difference.value,
                low=difference.low,
                high=difference.high,
                cohens_h=cohens_h(a, b),
                p=p,
                p_holm=adjusted,
            )
        )
    return pairs


def two_sided(drawn: NDArray[np.floating]) -> float | None:
    """Two-sided p of a difference of 0 by the percentile bootstrap; None without any resample."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    # One is added to each count: no finite number of resamples shows that something never happens.
    below, above = ((np.count_nonzero(side) + 1) / (len(drawn) + 1) for side in (drawn <= 0, drawn >= 0))
    return float(min(1.0, 2 * min(below, above)))
