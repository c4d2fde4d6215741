"""Classification by the nearest neighbours in features, without training or tuning."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

TEMPERATURE = 0.07
CHUNK = 1024


def neighbours(train: Floats, test: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Find the `k` nearest rows of `train` (n, d) for each row of `test` (t, d) by cosine, or all if fewer.

    Returns the cosines (t, k), descending, and the row numbers (t, k).
    """
    k = min(k, len(train))
    keys, similarity, index = unit_rows(train).T, [], []
    # In chunks, so that memory does not grow with the number of queries.
    for queries in np.split(unit_rows(test), range(CHUNK, len(test), CHUNK)):
        cosine = queries @ keys
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(cosine, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        similarity.append(np.take_along_axis(values, order, axis=1))
        index.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(similarity), np.concatenate(index)


def knn_vote(similarity: Floats, labels: Ints, classes: int) -> NDArray[np.float64]:
    """Score classes by neighbours, each with the weight ``exp(similarity / 0.07)``.

    The method of Wu et al. 2018 (arXiv 1805.01978), as DINO uses it. Similarities and labels are (t, k),
    scores (t, classes), which sum to 1 over the classes.
    """
    weights = np.exp((similarity.astype(np.float64) - similarity.max(axis=1, keepdims=True)) / TEMPERATURE)
    scores = np.zeros((len(similarity), classes))
    np.add.at(scores, (np.arange(len(scores))[:, None], labels), weights)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def knn_scores(train: Floats, labels: Ints, test: Floats, k: int, classes: int) -> NDArray[np.float64]:
    """Score classes of test rows, shape (t, classes), by their `k` nearest training rows; see `knn_vote`."""
    similarity, index = neighbours(train, test, k)
    return knn_vote(similarity, labels[index], classes)


def knn_predict(train: Floats, labels: Ints, test: Floats, k: int) -> NDArray[np.int64]:
    """Predict classes of test rows (t,) by their `k` nearest training rows; the lowest of equal scores."""
    scores = knn_scores(train, labels, test, k, int(labels.max()) + 1)
    return np.asarray(scores.argmax(axis=1), np.int64)


def standardise(values: Floats) -> Floats:
    """Shift and scale each column of (t, d) to mean 0 and standard deviation 1; constant columns become 0."""
    std = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(std > 0, std, 1))


def join_features(one: Floats, other: Floats) -> Floats:
    """Join features (t, d) and (t, e) so that the cosine is the mean of the two cosines."""
    return np.concatenate([unit_rows(one), unit_rows(other)], axis=1)


def unit_rows(rows: Floats, shortest: float | None = None) -> Floats:
    """Scale each row of (t, d) to length 1; a row of zeros stays one.

    Rows that are shorter than `shortest` become shorter than 1. That keeps rounding errors of a row that
    should be zero from being scaled up. By default `shortest` is the smallest normal number of the dtype.
    """
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, np.finfo(rows.dtype).tiny if shortest is None else shortest))
