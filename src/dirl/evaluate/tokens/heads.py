"""Linear heads on frozen tokens, fitted without the tiles that they score."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import interpolate

from dirl.core.intervals import Estimate, Units, estimate, means, ratios
from dirl.evaluate.common.scores import Scored, score_classes

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COSTS = (0.001, 0.01, 0.1, 1.0)
TRAINED, SCORED = 20_000, 50_000
"""Most tokens that a head is fitted on, and that are scored; more are drawn at random."""


@dataclass(frozen=True)
class AreaScored:
    """Tokens of an area against all others; see `score_area`."""

    classes: Scored
    average_precision: Estimate
    dice: Estimate


def cross_validate(
    values: NDArray[np.floating],
    classes: Ints,
    folds: Ints,
    groups: Ints,
    seed: int,
    advance: Callable[[], None],
) -> Floats:
    """Probabilities ``(k, classes)`` of items by heads that were fitted on the other folds.

    Features are standardised, and classes weigh the same. The cost is the one with the lowest loss on a fifth
    of the training part's groups. If a training part has only one class, this one is predicted. `values` are
    ``(k, d)``; classes, folds and groups ``(k,)``.
    """
    found = np.zeros((len(values), int(classes.max()) + 1))
    for fold in range(int(folds.max()) + 1):
        generator = np.random.default_rng((seed, fold))
        train = generator.permutation(np.flatnonzero(folds != fold))[:TRAINED]
        inner = np.isin(groups[train], generator.permutation(np.unique(groups[train]))[::5])
        scaler = StandardScaler().fit(values[train])
        x, y = scaler.transform(values[train]), classes[train]
        tested = folds == fold
        rows = np.zeros((int(tested.sum()), found.shape[1]))
        if (kinds := np.unique(y)).size > 1:
            cost = min(COSTS, key=lambda c: _loss(x[~inner], y[~inner], x[inner], y[inner], c))
            head = _head(cost).fit(x, y)
            rows[:, head.classes_] = head.predict_proba(scaler.transform(values[tested]))
        else:
            rows[:, kinds] = 1
        found[tested] = rows
        advance()
    return found


def _head(cost: float) -> LogisticRegression:
    return LogisticRegression(C=cost, max_iter=200, class_weight="balanced")


def _loss(x: Floats, y: Ints, test: Floats, truth: Ints, cost: float) -> float:
    if not len(truth) or len(np.unique(y)) < 2 or not np.isin(truth, y).all():
        return cost  # nothing to choose by: the strongest regularisation
    head = _head(cost).fit(x, y)
    return float(log_loss(truth, head.predict_proba(test), labels=head.classes_))


def score_area(
    pixels: NDArray[np.bool_],
    grid: tuple[int, int],
    probability: Floats,
    truth: NDArray[np.bool_],
    units: Units,
    seed: int,
) -> AreaScored:
    """Score the probability of an area, of each token ``(t, n)``, against the truth ``(t, n)``.

    AUROC is over all tokens, with intervals over the units of the tiles. Average precision is the mean over
    units. Dice is of the area's pixels ``(t, h, w)``, after bilinear upsampling of the `grid` of tokens, at
    the threshold with the best F1 of tokens.
    """
    of_token = units.of_tile.repeat(truth.shape[1])
    flat, right = probability.ravel(), truth.ravel()
    chosen = np.random.default_rng(seed).permutation(len(flat))[:SCORED]
    kept, of_kept = np.unique(of_token[chosen], return_inverse=True)
    drawn = Units(units.kind, of_kept.astype(np.int64), units.resamples, units.seed)
    two = np.stack([1 - flat[chosen], flat[chosen]], axis=1)
    precision = [
        average_precision_score(right[of_token == unit], flat[of_token == unit])
        if 0 < right[of_token == unit].mean() < 1
        else np.nan
        for unit in kept.tolist()
    ]
    of_units = Units(units.kind, np.arange(len(kept)), units.resamples, units.seed)
    value, resampled = means(np.array(precision)[:, None], of_units)
    large = interpolate(
        torch.from_numpy(probability.reshape(-1, 1, *grid)).float(),
        pixels.shape[1:],
        mode="bilinear",
        align_corners=False,
    )
    guess = large[:, 0].numpy() > _best_threshold(right[chosen], flat[chosen])
    both = 2 * (guess & pixels).sum((1, 2), dtype=np.float64)[:, None]
    either = (guess.sum((1, 2)) + pixels.sum((1, 2)))[:, None].astype(np.float64)
    dice, dices = ratios(both, either, units)
    return AreaScored(
        score_classes(right[chosen].astype(np.int64), two, drawn),
        estimate(value[0], resampled[:, 0]),
        estimate(dice[0], dices[:, 0]),
    )


def _best_threshold(truth: NDArray[np.bool_], probability: Floats) -> float:
    order = np.argsort(-probability)
    hits = np.cumsum(truth[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + max(1, int(truth.sum())))
    last = int(f1.argmax())
    return float(probability[order[last : last + 2]].mean())  # between the last nucleus and the next token
