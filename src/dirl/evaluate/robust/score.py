"""What damage costs: the score of a probe fitted on undamaged tiles, and the drift of features."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from dirl.config.stages import Damage
from dirl.core.intervals import Estimate, estimate, means
from dirl.evaluate.common.scores import Scored, score_classes
from dirl.evaluate.common.splits import validation_part
from dirl.evaluate.common.task import TileTask
from dirl.evaluate.probe.linear import linear_scores
from dirl.evaluate.robust.conditions import Condition
from dirl.evaluate.robust.summary import Accuracies, ConditionScores
from dirl.features.knn import knn_scores, unit_rows

Floats = NDArray[np.floating]


def score_conditions(
    sets: Mapping[Condition, Floats], task: TileTask, advance: Callable[..., None]
) -> dict[str, ConditionScores]:
    """Score one set of features under all conditions.

    In each fold a classifier is fitted on the undamaged training tiles (for angles, on their discs at 0°).
    It scores the held-out tiles under every condition, so that all conditions have the same split. `sets`
    holds features (t, d) by condition, those of the undamaged tiles among them. Returns scores by its name.
    """
    found: dict[Condition, dict[str, Scored]] = {}
    for base in dict.fromkeys(condition.base for condition in sets):
        conditions = [c for c in sets if c.base == base]
        scores = fold_scores(sets[base], [sets[c] for c in conditions], task, advance)
        truth = task.classes[task.held_out]
        for condition, each in zip(conditions, scores, strict=True):
            found[condition] = {
                how: score_classes(truth, values[task.held_out], task.units) for how, values in each.items()
            }
    spreads = {base: mean_distance(sets[base][task.held_out]) for base in found if base == base.base}
    results = {}
    for condition, scored in found.items():
        before = found[condition.base]
        moved, apart = drift(sets[condition.base], sets[condition], task), spreads[condition.base]
        results[str(condition)] = ConditionScores(
            knn=scored["knn"].record().balanced_accuracy,
            linear=scored["linear"].record().balanced_accuracy,
            knn_change=scored["knn"].minus(before["knn"]),
            linear_change=scored["linear"].minus(before["linear"]),
            drift=moved,
            drift_share=Estimate(*(None if v is None else v / apart for v in astuple(moved))),
        )
    return results


def drift(before: Floats, after: Floats, task: TileTask) -> Estimate:
    """Mean of 1 - cosine between features (t, d) before and after damage, over the held-out tiles."""
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosine = np.einsum("td,td->t", before.astype(float), after.astype(float)) / np.maximum(lengths, 1e-12)
    value, drawn = means(1 - cosine[task.held_out, None], task.units)
    return estimate(float(value[0]), drawn[:, 0])


def mean_distance(values: Floats) -> float:
    """Mean of 1 - cosine between the features (t, d) of different tiles, the scale of the drift.

    Embeddings often lie in a narrow cone. The drift of such an encoder is small under any damage.
    """
    unit = unit_rows(values, 1e-12)
    count = len(unit)
    # The sum over all pairs is the squared length of the sum, and a row's product with itself is 1.
    cosine = (float(np.square(unit.sum(axis=0, dtype=np.float64)).sum()) - count) / (count * (count - 1))
    return max(1 - cosine, 1e-12)


def relative(results: Mapping[str, ConditionScores], kind: Damage, levels: Sequence[int]) -> Accuracies:
    """Score under damage over that before, averaged over levels; 1 is no loss, chance is not subtracted."""
    before = results[str(Condition(kind).base)]
    after = [results[str(Condition(kind, level))] for level in levels]
    return Accuracies(
        knn=_mean_ratio([one.knn for one in after], before.knn),
        linear=_mean_ratio([one.linear for one in after], before.linear),
    )


def _mean_ratio(after: Sequence[Estimate], before: Estimate) -> float:
    assert before.value is not None
    return float(np.mean([one.value / before.value for one in after if one.value is not None]))


def fold_scores(
    train: Floats, forms: Sequence[Floats], task: TileTask, advance: Callable[..., None]
) -> list[dict[str, NDArray[np.float64]]]:
    """Fit on features (t, d) of the training tiles of each fold, and score the held-out tiles in every form.

    Returns for each form, by ``knn`` and ``linear``, scores (t, classes): 0 for tiles that no fold holds out.
    """
    count, classes = len(task.classes), len(task.names)
    scores = [{how: np.zeros((count, classes)) for how in ("knn", "linear")} for _ in forms]
    for fold in range(len(task.split)):
        test = task.split.folds == fold
        labels, fitted = task.classes[~test], train[~test]
        # All forms at once: the fit, which takes the time, is the same for them.
        asked = np.concatenate([values[test] for values in forms])
        validation = validation_part(labels, task.split.groups[~test], task.config.seed)
        answers = {
            "knn": knn_scores(fitted, labels, asked, task.config.neighbours[0], classes),
            "linear": linear_scores(fitted, labels, asked, validation, classes)[0],
        }
        for how, values in answers.items():
            for of_form, part in zip(scores, np.split(values, len(forms)), strict=True):
                of_form[how][test] = part
        advance()
    return scores
