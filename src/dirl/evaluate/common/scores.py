"""Scores with their bootstrap, so that two classifiers, or two risks, on the same items can be paired."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from dirl.core.intervals import Estimate, Units, estimate
from dirl.evaluate.common.records import ClassScores

Floats = NDArray[np.float64]

METRICS = ("balanced_accuracy", "macro_f1", "macro_auroc")
SURVIVAL_METRICS = ("concordance",)
# Weights of tiles held at once: few enough for the processor's cache.
CHUNK = 2**18


def measure_title(name: str) -> str:
    """Title of a measure in tables and figures: ``20-NN`` for ``knn20``; other names stay."""
    k = name.removeprefix("knn")
    return name if k == name else f"{k}-NN"


@dataclass(frozen=True)
class Scored:
    """Scores of one classifier, or of one model's risks.

    Attributes
    ----------
    metrics
        Names of the m metrics. Results are compared by the first.
    values : ndarray of shape (m,)
        NaN where nothing can be compared.
    resampled : ndarray of shape (resamples, m)
        The same on resampled units.
    """

    metrics: tuple[str, ...]
    values: Floats
    resampled: Floats

    @property
    def first(self) -> tuple[float, Floats]:
        """The first metric, and the same on resampled units (resamples,)."""
        return float(self.values[0]), self.resampled[:, 0]

    def estimates(self) -> dict[str, Estimate]:
        """Each metric with its interval."""
        return {name: estimate(self.values[i], self.resampled[:, i]) for i, name in enumerate(self.metrics)}

    def record(self) -> ClassScores:
        """Return the `estimates` of a classifier as a summary holds them."""
        return ClassScores(**self.estimates())

    def minus(self, other: "Scored") -> Estimate:
        """Difference in the first metric, paired by resample."""
        return estimate(self.values[0] - other.values[0], self.resampled[:, 0] - other.resampled[:, 0])


def score_classes(truth: NDArray[np.int64], scores: Floats, units: Units) -> Scored:
    """Score predictions of classes (t,) by scores (t, classes), and again on units drawn with replacement.

    Balanced accuracy is the mean recall of the classes. Macro F1 and macro one-vs-rest AUROC are means over
    the classes, too. A class that does not occur in a resample is left out of its means. The same units give
    the same draws, so results can be paired.
    """
    classes = scores.shape[1]
    pairs = truth * classes + scores.argmax(axis=1)
    cells = csr_array((np.ones(len(truth)), (np.arange(len(truth)), pairs)), shape=(len(truth), classes**2))
    rankings = [_Ranking.of(truth == c, scores[:, c]) for c in range(classes)]

    def measure(weights: Floats) -> Floats:
        confusion = np.asarray(weights @ cells).reshape(len(weights), classes, classes)
        right = np.diagonal(confusion, axis1=1, axis2=2)
        actual, guessed = confusion.sum(axis=2), confusion.sum(axis=1)
        recall = right / actual
        f1 = 2 * right / (actual + guessed)
        auroc = np.stack([ranking.auroc(weights) for ranking in rankings], axis=1)
        return np.stack([_mean(values) for values in (recall, f1, auroc)], axis=1)

    generator = np.random.default_rng(units.seed)
    count, size = len(units), max(1, CHUNK // len(truth))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = measure(np.ones((1, len(truth))))[0]
        resampled = [np.empty((0, len(METRICS)))]
        for start in range(0, units.resamples, size):
            rows = min(size, units.resamples - start)
            times = generator.multinomial(count, np.full(count, 1 / count), size=rows)
            resampled.append(measure(times[:, units.of_tile].astype(np.float64)))
    return Scored(METRICS, values, np.concatenate(resampled))


def concordance(
    risks: Floats, times: Floats, events: NDArray[np.bool_], folds: NDArray[np.int64], units: Units
) -> Scored:
    """Harrell's concordance index of risks (n,), and again on units drawn with replacement.

    A pair counts if one of the two had the event earlier. The index is the share of pairs in which that one
    has the higher risk; equal risks count half. With equal times, an event is before a follow-up. Pairs lie
    within a fold, since the risks of two models have no common scale.
    """
    earlier = (times[:, None] < times) | ((times[:, None] == times) & ~events)
    counted = (earlier & events[:, None] & (folds[:, None] == folds)).astype(np.float64)
    agreed = counted * ((risks[:, None] > risks) + 0.5 * (risks[:, None] == risks))
    count = len(units)
    generator = np.random.default_rng(units.seed)
    times_drawn = generator.multinomial(count, np.full(count, 1 / count), size=units.resamples)
    weights = np.concatenate([np.ones((1, len(risks))), times_drawn[:, units.of_tile]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ((weights @ agreed) * weights).sum(axis=1) / ((weights @ counted) * weights).sum(axis=1)
    return Scored(SURVIVAL_METRICS, found[:1], found[1:, None])


@dataclass(frozen=True)
class _Ranking:
    """Tiles by ascending score of one class; each of `starts` begins a run of equal scores."""

    order: NDArray[np.int64]
    positive: NDArray[np.bool_]
    starts: NDArray[np.int64]

    @staticmethod
    def of(positive: NDArray[np.bool_], scores: Floats) -> "_Ranking":
        order = np.argsort(scores, kind="stable")
        changes = np.diff(scores[order], prepend=-np.inf) != 0
        return _Ranking(order, positive[order], np.flatnonzero(changes))

    def auroc(self, weights: Floats) -> Floats:
        """Probability that a positive outranks a negative, equals counted half; weights (b, t) to (b,)."""
        sorted_ = weights[:, self.order]
        above = np.add.reduceat(sorted_ * self.positive, self.starts, axis=1)
        below = np.add.reduceat(sorted_ * ~self.positive, self.starts, axis=1)
        outranked = np.cumsum(below, axis=1) - below / 2
        area: Floats = (above * outranked).sum(axis=1) / (above.sum(axis=1) * below.sum(axis=1))
        return area


def _mean(values: Floats) -> Floats:
    """Mean over the classes (b, classes), without those that do not occur."""
    known = ~np.isnan(values)
    mean: Floats = np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)
    return mean
