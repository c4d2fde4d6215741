"""What damage costs: a probe fitted on whole tiles and asked about damaged ones, and how features move."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.core.intervals import interval, means
from dirl.evaluate.common.scores import Interval, Scored, score
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.common.task import Task
from dirl.evaluate.probe.linear import linear_scores
from dirl.evaluate.robust.conditions import Condition
from dirl.features.knn import knn_scores

Floats = NDArray[np.floating]


def score_conditions(
    sets: Mapping[Condition, Floats], task: Task, advance: Callable[..., None]
) -> dict[str, dict[str, Any]]:
    """Score one set of features under all conditions.

    In each fold a classifier is fitted on the training tiles before damage (for angles, on their discs at
    0°) and asked about the held-out tiles under every condition, so that all stand on the same split.

    Parameters
    ----------
    sets
        Features ``(t, d)`` of the task's tiles by condition, what is compared with among them.
    task
        Classes, folds, units.
    advance
        Called once for each fold and base.

    Returns
    -------
    dict
        By condition's name: ``knn`` and ``linear`` (balanced accuracy with its interval), ``knn_change`` and
        ``linear_change`` (minus that of the base, paired), ``drift`` (see `drift`) and ``drift_share``, the
        same over the `spread` of the base.
    """
    found: dict[Condition, dict[str, Scored]] = {}
    for base in dict.fromkeys(condition.base for condition in sets):
        conditions = [c for c in sets if c.base == base]
        scores = held_out_scores(sets[base], [sets[c] for c in conditions], task, advance)
        truth = task.classes[task.held_out]
        for condition, each in zip(conditions, scores, strict=True):
            found[condition] = {
                how: score(truth, values[task.held_out], task.units) for how, values in each.items()
            }
    spreads = {base: spread(sets[base][task.held_out]) for base in found if base == base.base}
    results: dict[str, dict[str, Any]] = {}
    for condition, scored in found.items():
        before = found[condition.base]
        moved, apart = drift(sets[condition.base], sets[condition], task), spreads[condition.base]
        results[str(condition)] = {
            **{how: each.intervals()["balanced_accuracy"] for how, each in scored.items()},
            **{f"{how}_change": each.minus(before[how]) for how, each in scored.items()},
            "drift": moved,
            "drift_share": {key: None if value is None else value / apart for key, value in moved.items()},
        }
    return results


def drift(before: Floats, after: Floats, task: Task) -> Interval:
    """Mean of 1 - cosine between a tile's features before and after damage, over the held-out tiles.

    Parameters
    ----------
    before, after : ndarray of shape (t, d)

    Returns
    -------
    dict
        The mean with its interval.
    """
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.einsum("td,td->t", before.astype(float), after.astype(float)) / np.maximum(lengths, 1e-12)
    value, drawn = means(1 - cosine[task.held_out, None], task.units)
    return interval(float(value[0]), drawn[:, 0])


def spread(values: Floats) -> float:
    """Mean of 1 - cosine between the features of different tiles, by which drift is to be measured.

    Embeddings often lie in a narrow cone; the drift of such an encoder is small whatever it suffers.

    Parameters
    ----------
    values : ndarray of shape (t, d)
        Of two tiles at least.
    """
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    count = len(unit)
    # The sum over all pairs is the squared length of the sum, and a row's product with itself is 1.
    cosine = (float(np.square(unit.sum(axis=0, dtype=np.float64)).sum()) - count) / (count * (count - 1))
    return max(1 - cosine, 1e-12)


def relative(results: Mapping[str, Mapping[str, Any]], kind: str, levels: Sequence[int], how: str) -> float:
    """Score under damage over that before, averaged over levels; 1 is no loss, chance is not taken off."""
    before = results[str(Condition(kind).base)][how]["value"]
    return float(np.mean([results[str(Condition(kind, level))][how]["value"] / before for level in levels]))


def held_out_scores(
    train: Floats, shown: Sequence[Floats], task: Task, advance: Callable[..., None]
) -> list[dict[str, NDArray[np.float64]]]:
    """Fit on the training tiles of each fold, and ask about the held-out tiles in every form.

    Parameters
    ----------
    train : ndarray of shape (t, d)
        What is fitted on.
    shown
        What is asked about, each ``(t, d)``.

    Returns
    -------
    list of dict
        For each of `shown`, by ``knn`` and ``linear``: scores ``(t, classes)``, 0 for tiles never held out.
    """
    count, classes = len(task.classes), len(task.names)
    scores = [{how: np.zeros((count, classes)) for how in ("knn", "linear")} for _ in shown]
    for fold in range(len(task.split)):
        test = task.split.folds == fold
        labels, known = task.classes[~test], train[~test]
        # All forms at once: the fit, which takes the time, is the same for them.
        asked = np.concatenate([values[test] for values in shown])
        aside = validation_part(labels, task.split.groups[~test], task.config.seed)
        answers = {
            "knn": knn_scores(known, labels, asked, task.config.neighbours[0], classes),
            "linear": linear_scores(known, labels, asked, aside, classes)[0],
        }
        for how, values in answers.items():
            for form, part in zip(scores, np.split(values, len(shown)), strict=True):
                form[how][test] = part
        advance()
    return scores
