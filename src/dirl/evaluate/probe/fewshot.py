"""Few labels: classification by the nearest mean of a few labelled tiles of each class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.core.intervals import Estimate
from dirl.features.knn import unit_rows

Floats = NDArray[np.floating]

SHOTS = (1, 2, 4, 8, 16, 32)
DRAWS = 100


@dataclass(frozen=True)
class FewShot:
    """Balanced accuracies (shots, draws), by the number of labelled tiles of each class."""

    shots: tuple[int, ...]
    values: NDArray[np.float64]

    def estimates(self) -> dict[str, Estimate]:
        """By number of shots: the mean over the draws, and the interval that holds 95 % of the draws."""
        low, high = np.percentile(self.values, [2.5, 97.5], axis=1) if len(self.shots) else ([], [])
        return {
            str(shot): Estimate(float(row.mean()), float(bottom), float(top))
            for shot, row, bottom, top in zip(self.shots, self.values, low, high, strict=True)
        }


def few_shot(
    values: Floats, classes: NDArray[np.int64], folds: NDArray[np.int64], seed: int, draws: int = DRAWS
) -> FewShot:
    """Classify each held-out tile by the nearest mean of a few labelled tiles of each class.

    Each draw holds out one fold, in turn, and draws the labelled tiles from the others. Features are shifted
    by the mean of all tiles outside the fold, which needs no labels, and scaled to length 1. This follows
    SimpleShot (Wang et al. 2019, arXiv 1911.04623). The same classes, folds and seed give the same draws.

    Differs from the paper: balanced accuracy over all classes, not accuracy on five of them.

    Features are (t, d), classes and folds (t,); the fold is -1 for a tile that none holds out. Of 1, 2, 4, 8,
    16, 32 shots, those are drawn for which every class has enough tiles outside each fold.
    """
    count, kinds = int(folds.max()) + 1, int(classes.max()) + 1
    parts = [np.flatnonzero(folds != fold) for fold in range(count)]
    least = min(int(np.bincount(classes[part], minlength=kinds).min()) for part in parts)
    shots = tuple(shot for shot in SHOTS if shot <= least)
    found = np.zeros((len(shots), draws))
    generator = np.random.default_rng(seed)
    # One permutation of each class: the tiles of fewer shots are among those of more.
    drawn = [
        [generator.permutation(np.flatnonzero(classes[parts[draw % count]] == c)) for c in range(kinds)]
        for draw in range(draws)
    ]
    for fold, part in enumerate(parts):  # one after another, as all centred features are a copy of them
        train, test = _centred(values, part, folds == fold)
        labels = classes[folds == fold]
        there = np.bincount(labels, minlength=kinds)
        for draw in range(fold, draws, count):
            for i, shot in enumerate(shots):
                means = np.stack([train[one[:shot]].mean(axis=0) for one in drawn[draw]])
                distance = (means**2).sum(axis=1) - 2 * test @ means.T
                right = distance.argmin(axis=1) == labels
                recall = np.bincount(labels[right], minlength=kinds)[there > 0] / there[there > 0]
                found[i, draw] = recall.mean()
    return FewShot(shots, found)


def _centred(values: Floats, train: NDArray[np.int64], test: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    middle = values[train].mean(axis=0)
    parts = []
    for part in (values[train], values[test]):
        shifted = (part - middle).astype(np.float64)
        parts.append(unit_rows(shifted, 1e-12))
    return parts[0], parts[1]
