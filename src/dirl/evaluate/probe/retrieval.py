"""Retrieval: whether the most similar tiles, from other folds than the query's, have the query's class."""

import numpy as np
from numpy.typing import NDArray

from dirl.core.intervals import Estimate, Units, estimate, means
from dirl.features.knn import unit_rows

Floats = NDArray[np.floating]

RANKS = (1, 5, 10)
MOST_QUERIES, CHUNK = 2000, 256


def retrieval(values: Floats, classes: NDArray[np.int64], folds: NDArray[np.int64], seed: int) -> Floats:
    """Rank, for held-out tiles, all tiles outside their fold by cosine.

    At most 2,000 of them, drawn at random, are queries. Features are (t, d), classes and folds (t,); the fold
    is -1 for a tile that none holds out.

    Returns
    -------
    ndarray of shape (held out, ranks + 1)
        Recall at 1, 5 and 10: 1 if a tile of the query's class is among the first 1, 5 or 10, else 0. Then
        the query's average precision over all ranks. NaN for tiles that are no queries.
    """
    asked = np.flatnonzero(folds >= 0)
    if len(asked) > MOST_QUERIES:
        asked = np.random.default_rng(seed).choice(asked, MOST_QUERIES, replace=False)
    unit = unit_rows(values)
    found = np.full((len(values), len(RANKS) + 1), np.nan)
    for fold in range(int(folds.max()) + 1):
        queries, keys = asked[folds[asked] == fold], np.flatnonzero(folds != fold)
        gallery, labels = unit[keys].T, classes[keys]
        for start in range(0, len(queries), CHUNK):
            chunk = queries[start : start + CHUNK]
            order = np.argsort(-(unit[chunk] @ gallery), axis=1, kind="stable")
            found[chunk] = _ranked(labels[order] == classes[chunk, None])
    return found[folds >= 0]


def retrieval_estimates(found: Floats, units: Units) -> dict[str, Estimate]:
    """Means over queries of what `retrieval` found, with intervals over units of the held-out tiles."""
    value, resampled = means(found, units)
    names = [*(f"recall@{k}" for k in RANKS), "map"]
    return {name: estimate(value[i], resampled[:, i]) for i, name in enumerate(names)}


def _ranked(same: NDArray[np.bool_]) -> Floats:
    """Recalls and average precision of queries, from whether each rank is of their class (q, keys)."""
    hits = same.cumsum(axis=1)
    precision = hits / np.arange(1, same.shape[1] + 1)
    total = np.maximum(hits[:, -1], 1)
    average = (precision * same).sum(axis=1) / total
    return np.column_stack([*(same[:, :k].any(axis=1) for k in RANKS), average])
