"""Balanced accuracy, or concordance, of every entry, and all differences, paired on the same drawn units."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.core.holm import holm
from dirl.core.intervals import Units, interval
from dirl.evaluate.common.scores import Scored, score
from dirl.evaluate.compare.entries import Comparable
from dirl.evaluate.mil.cox import Concordance, concordance

# The first is what is compared.
METRICS = ("balanced_accuracy", "macro_f1")
SURVIVAL_METRICS = ("concordance",)
LEVEL = 0.05

Result = Scored | Concordance


def measures_of(compared: Comparable) -> list[str]:
    """Return the measures that all entries have, in the first one's order."""
    first, *others = compared.entries
    return [how for how in first.predicted if all(how in entry.predicted for entry in others)]


def compare_all(compared: Comparable, how: str, resamples: int, seed: int) -> dict[str, Any]:
    """Score all entries by one measure, and compare each with each.

    Parameters
    ----------
    compared
        Entries on the same items.
    how
        The measure.
    resamples, seed
        Of the bootstrap over units.

    Returns
    -------
    dict
        ``entries``: by name, balanced accuracy and macro F1, or concordance, with intervals. ``pairs``: of
        each two, the difference in the first of them with its interval, Cohen's h, the two-sided p of the
        bootstrap, and the same by Holm's correction over all pairs. ``best``; ``cliques``: see `cliques`.
    """
    _, of_item = np.unique(compared.units, return_inverse=True)
    units = Units(compared.over, of_item.astype(np.int64), resamples, seed)
    scored = _by_risk(compared, how, units) if compared.survival else _by_class(compared, how, units)
    pairs = [_pair(a, b, scored) for a, b in combinations(scored, 2)]
    for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
    order = sorted(scored, key=lambda name: -scored[name].first[0])
    return {
        "entries": {
            name: {metric: each.intervals()[metric] for metric in metrics_of(compared)}
            for name, each in scored.items()
        },
        "pairs": pairs,
        "best": order[0],
        "cliques": cliques(order, pairs),
    }


def metrics_of(compared: Comparable) -> tuple[str, ...]:
    """Return the metrics that entries are scored by; they are compared by the first."""
    return SURVIVAL_METRICS if compared.survival else METRICS


def _by_class(compared: Comparable, how: str, units: Units) -> dict[str, Result]:
    classes = np.unique(np.concatenate([compared.truth, *(e.predicted[how] for e in compared.entries)]))
    truth = np.searchsorted(classes, compared.truth)
    chosen = {entry.name: np.searchsorted(classes, entry.predicted[how]) for entry in compared.entries}
    return {name: score(truth, np.eye(len(classes))[each], units) for name, each in chosen.items()}


def _by_risk(compared: Comparable, how: str, units: Units) -> dict[str, Result]:
    known = compared.survival
    assert known is not None
    risks = {entry.name: np.asarray(entry.predicted[how], np.float64) for entry in compared.entries}
    return {
        name: concordance(each, known.times, known.events, known.folds, units) for name, each in risks.items()
    }


def cohens_h(one: float, other: float) -> float:
    """Effect size of a difference of two proportions: .2 is small, .5 medium, .8 large (Cohen, 1988)."""
    return float(2 * np.arcsin(np.sqrt(one)) - 2 * np.arcsin(np.sqrt(other)))


def cliques(order: list[str], pairs: list[dict[str, Any]]) -> list[list[str]]:
    """Group neighbours in the ranking that cannot be told apart, as a critical-difference diagram does.

    Parameters
    ----------
    order
        Names, best first.
    pairs
        Of all names, with ``p_holm``.
    level
        Below it two are told apart.

    Returns
    -------
    list of list of str
        The largest runs of at least two of which no two are told apart; none lies in another.
    """
    apart = {
        frozenset((p["one"], p["other"])) for p in pairs if p["p_holm"] is not None and p["p_holm"] < LEVEL
    }
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


def _pair(one: str, other: str, scored: Mapping[str, Result]) -> dict[str, Any]:
    (a, a_drawn), (b, b_drawn) = scored[one].first, scored[other].first
    return {
        "one": one,
        "other": other,
        **{("difference" if k == "value" else k): v for k, v in interval(a - b, a_drawn - b_drawn).items()},
        "cohens_h": cohens_h(a, b),
        "p": two_sided(a_drawn - b_drawn),
    }


def two_sided(drawn: NDArray[np.floating]) -> float | None:
    """Two-sided p of a difference of 0 by the percentile bootstrap; None without any resample."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return None
    # One more than was drawn: no finite number of resamples shows that something never happens.
    below, above = ((np.count_nonzero(side) + 1) / (len(drawn) + 1) for side in (drawn <= 0, drawn >= 0))
    return float(min(1.0, 2 * min(below, above)))
