"""Classification by the nearest neighbours in features, without training or tuning."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

TEMPERATURE = 0.07
CHUNK = 1024


def neighbours(train: Floats, test: Floats, k: int) -> tuple[Floats, NDArray[np.int64]]:
    """Find the nearest training rows of each test row by cosine.

    Parameters
    ----------
    train : ndarray of shape (n, d)
    test : ndarray of shape (t, d)
    k
        Number of neighbours. All rows of `train` if it has fewer.

    Returns
    -------
    similarity : ndarray of shape (t, k)
        Descending.
    index : ndarray of shape (t, k)
        Rows of `train`.
    """
    k = min(k, len(train))
    keys, similarity, index = _unit(train).T, [], []
    # In chunks, so that memory does not grow with the number of queries.
    for queries in np.split(_unit(test), range(CHUNK, len(test), CHUNK)):
        cosine = queries @ keys
        nearest = np.argpartition(-cosine, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(cosine, nearest, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        similarity.append(np.take_along_axis(values, order, axis=1))
        index.append(np.take_along_axis(nearest, order, axis=1))
    return np.concatenate(similarity), np.concatenate(index)


def vote(similarity: Floats, labels: Ints, classes: int) -> NDArray[np.float64]:
    """Score classes by neighbours, each with the weight ``exp(similarity / 0.07)``.

    The method of Wu et al. 2018 (arXiv 1805.01978), as DINO uses it.

    Parameters
    ----------
    similarity : ndarray of shape (t, k)
    labels : ndarray of shape (t, k)
        Classes of the neighbours, from 0.
    classes
        Number of classes.

    Returns
    -------
    ndarray of shape (t, classes)
        Sums to 1 over the classes.
    """
    weights = np.exp((similarity.astype(np.float64) - similarity.max(axis=1, keepdims=True)) / TEMPERATURE)
    scores = np.zeros((len(similarity), classes))
    np.add.at(scores, (np.arange(len(scores))[:, None], labels), weights)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def knn_scores(train: Floats, labels: Ints, test: Floats, k: int, classes: int) -> NDArray[np.float64]:
    """Score classes of test rows, shape (t, classes), by their `k` nearest training rows; see `vote`."""
    similarity, index = neighbours(train, test, k)
    return vote(similarity, labels[index], classes)


def knn_predict(train: Floats, labels: Ints, test: Floats, k: int) -> NDArray[np.int64]:
    """Predict classes of test rows by their `k` nearest training rows.

    Parameters
    ----------
    train : ndarray of shape (n, d)
    labels : ndarray of shape (n,)
        Classes of the training rows, from 0.
    test : ndarray of shape (t, d)
    k
        Number of neighbours.

    Returns
    -------
    ndarray of shape (t,)
        The lowest class among equal scores.
    """
    scores = knn_scores(train, labels, test, k, int(labels.max()) + 1)
    return np.asarray(scores.argmax(axis=1), np.int64)


def standardise(values: Floats) -> Floats:
    """Shift and scale each column of (t, d) to mean 0 and standard deviation 1; constant columns become 0."""
    std = values.std(axis=0)
    return np.asarray((values - values.mean(axis=0)) / np.where(std > 0, std, 1))


def side_by_side(one: Floats, other: Floats) -> Floats:
    """Join features (t, d) and (t, e) so that the cosine is the mean of the two cosines."""
    return np.concatenate([_unit(one), _unit(other)], axis=1)


def _unit(rows: Floats) -> Floats:
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(length, np.finfo(rows.dtype).tiny))
