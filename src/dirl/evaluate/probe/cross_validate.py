"""Scores of the held-out tiles, each by a classifier that was fitted without the tile's fold."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dirl.evaluate.common.scores import score_classes
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.common.task import TileTask
from dirl.evaluate.probe.linear import linear_scores
from dirl.evaluate.probe.summary import Form
from dirl.features.knn import knn_vote, neighbours, standardise

Floats = NDArray[np.floating]
Scores = NDArray[np.float64]

RAW: Form = "raw"
STANDARDISED: Form = "standardised"


def knn_name(k: int) -> str:
    """Name of the classifier by `k` neighbours in summaries and tables."""
    return f"knn{k}"


def by_neighbours(
    values: Floats, task: TileTask, ks: tuple[int, ...], advance: Callable[..., None]
) -> dict[str, Scores]:
    """Votes of the `ks` nearest neighbours in the training part, from features (t, d) of the task's tiles.

    Returns scores of the held-out tiles (n, classes), by `knn_name`.
    """
    classes = len(task.names)
    scores = {knn_name(k): np.zeros((len(values), classes)) for k in ks}
    for fold in range(len(task.split)):
        test = task.split.folds == fold
        similarity, index = neighbours(values[~test], values[test], max(ks))
        labels = task.classes[~test][index]
        for k in ks:
            scores[knn_name(k)][test] = knn_vote(similarity[:, :k], labels[:, :k], classes)
        advance()
    return {name: each[task.held_out] for name, each in scores.items()}


def by_linear(values: Floats, task: TileTask, advance: Callable[..., None]) -> tuple[Scores, list[float]]:
    """Probabilities of the held-out tiles (n, classes) by the linear probe, and the C chosen in each fold."""
    scores, costs = np.zeros((len(values), len(task.names))), []
    for fold in range(len(task.split)):
        test = task.split.folds == fold
        labels = task.classes[~test]
        validation = validation_part(labels, task.split.groups[~test], task.config.seed)
        scores[test], cost = linear_scores(values[~test], labels, values[test], validation, len(task.names))
        costs.append(cost)
        advance()
    return scores[task.held_out], costs


def better_form(
    raw: Floats, scores: dict[str, Scores], task: TileTask, advance: Callable[..., None]
) -> tuple[Form, Floats, dict[str, Scores]]:
    """Choose the form of a baseline, raw or standardised, whose neighbours score higher.

    Cosines of raw colours, and of an untrained encoder, are all near 1, so either form may score lower.
    `scores` are those of `by_neighbours` for the raw values (t, d). Returns the form's name, its values and
    its scores.
    """
    standardised = standardise(raw)
    others = by_neighbours(standardised, task, task.config.neighbours, advance)
    truth, first = task.classes[task.held_out], knn_name(task.config.neighbours[0])
    once = replace(task.units, resamples=0)
    as_it_is, otherwise = (score_classes(truth, each[first], once).values[0] for each in (scores, others))
    return (STANDARDISED, standardised, others) if otherwise > as_it_is else (RAW, raw, scores)
