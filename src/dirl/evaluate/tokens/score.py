"""Scores of the encoder's tokens and of every baseline, on the same folds and units."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dirl.config import TokensConfig
from dirl.core.intervals import Units, estimate, ratios
from dirl.encoders.loading import LoadedEncoder
from dirl.evaluate.common.scores import Scored, score_classes
from dirl.evaluate.tokens.heads import AreaScored, cross_validate, score_area
from dirl.evaluate.tokens.read import RGB, RGB_AROUND, UNTRAINED, TokenTiles, TypedNuclei, token_features
from dirl.evaluate.tokens.summary import AreaScores, OneType, TokenScores, TypeScores
from dirl.features.baselines import FEATURES

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]
Advance = Callable[[], None]

BASELINES = (UNTRAINED, RGB_AROUND, RGB)


@dataclass(frozen=True)
class Setting:
    """What all sets of features share.

    Attributes
    ----------
    folds, groups : ndarray of shape (t,)
        Fold and group of each tile.
    units
        Units of the tiles.
    """

    folds: Ints
    groups: Ints
    units: Units
    config: TokensConfig

    def probabilities(
        self, values: Floats, classes: Ints, tile: Ints, advance: Advance
    ) -> NDArray[np.float64]:
        """Probabilities (k, classes) of items in tiles (k,); see `cross_validate`."""
        folds, groups = self.folds[tile], self.groups[tile]
        return cross_validate(values, classes, folds, groups, self.config.seed, advance)


@dataclass(frozen=True)
class _TypesScored:
    classes: Scored
    each: dict[str, OneType]


@dataclass(frozen=True)
class _SetScored:
    width: int
    areas: dict[str, AreaScored]
    types: _TypesScored | None

    def record(self, baseline: "_SetScored | None") -> TokenScores:
        """Return the scores as a summary holds them, with differences to a baseline."""
        types = None
        if self.types is not None:
            other = None if baseline is None else baseline.types
            found = self.types.classes.estimates()
            types = TypeScores(
                balanced_accuracy=found["balanced_accuracy"],
                macro_f1=found["macro_f1"],
                over_rgb=None if other is None else self.types.classes.minus(other.classes),
                classes=self.types.each,
            )
        areas = {
            name: _area_record(one, None if baseline is None else baseline.areas[name])
            for name, one in self.areas.items()
        }
        return TokenScores(width=self.width, areas=areas, types=types)


def sets(*, baselines: bool) -> tuple[str, ...]:
    """Names of the sets of tokens that are scored: the encoder's and, if asked for, the baselines."""
    return (FEATURES, *BASELINES) if baselines else (FEATURES,)


def steps(tiles: TokenTiles, folds: int, *, baselines: bool) -> int:
    """Number of heads that `score_sets` fits."""
    return len(sets(baselines=baselines)) * folds * (len(tiles.areas) + (len(tiles.nuclei.counts) > 1))


def score_sets(
    tiles: TokenTiles, encoder: LoadedEncoder, setting: Setting, advance: Advance, *, baselines: bool
) -> dict[str, TokenScores]:
    """Score tokens of the encoder and, as baselines, of its untrained copy and colours of tokens, by name.

    An area must cover at least `TokensConfig.share` of some tokens, and not of all.
    """
    untrained = encoder.randomised(setting.config.seed)
    found = {}
    for name in sets(baselines=baselines):
        values = token_features(tiles, untrained if name == UNTRAINED else encoder, name)
        found[name] = _score_set(tiles, values, setting, advance)
    baseline = found.get(RGB_AROUND)
    return {name: one.record(None if name in (RGB, RGB_AROUND) else baseline) for name, one in found.items()}


def _score_set(tiles: TokenTiles, values: Floats, setting: Setting, advance: Advance) -> _SetScored:
    count, tokens, width = values.shape
    tile, areas = np.arange(count).repeat(tokens), {}
    for area in tiles.areas:
        truth = area.share >= setting.config.share
        chance = setting.probabilities(
            values.reshape(-1, width), truth.ravel().astype(np.int64), tile, advance
        )[:, 1]
        areas[area.name] = score_area(
            area.pixels, tiles.grid, chance.reshape(truth.shape), truth, setting.units, setting.config.seed
        )
    typed = len(tiles.nuclei.counts) > 1
    return _SetScored(width, areas, _score_types(tiles.nuclei, values, setting, advance) if typed else None)


def _score_types(nuclei: TypedNuclei, values: Floats, setting: Setting, advance: Advance) -> _TypesScored:
    means = np.stack([share @ values[row] for share, row in zip(nuclei.share, nuclei.tile, strict=True)])
    scores = setting.probabilities(means, nuclei.kind, nuclei.tile, advance)
    of_kept = np.unique(setting.units.of_tile[nuclei.tile], return_inverse=True)[1]
    units = replace(setting.units, of_tile=of_kept.astype(np.int64))
    return _TypesScored(
        score_classes(nuclei.kind, scores, units),
        score_each_type(nuclei.kind, scores.argmax(axis=1), nuclei.classes, units),
    )


def score_each_type(
    truth: Ints, guess: NDArray[np.integer], classes: tuple[str, ...], units: Units
) -> dict[str, OneType]:
    """Count and score each class that occurs, from true and predicted numbers of classes (m,)."""
    numbers = np.arange(len(classes))
    actual, predicted = ((each[:, None] == numbers).astype(np.float64) for each in (truth, np.asarray(guess)))
    right = actual * predicted
    recall, precision, f1 = (
        ratios(above, below, units)
        for above, below in ((right, actual), (right, predicted), (2 * right, actual + predicted))
    )
    return {
        name: OneType(
            n=int(actual[:, i].sum()),
            recall=estimate(recall[0][i], recall[1][:, i]),
            precision=estimate(precision[0][i], precision[1][:, i]),
            f1=estimate(f1[0][i], f1[1][:, i]),
        )
        for i, name in enumerate(classes)
        if actual[:, i].any()
    }


def _area_record(scored: AreaScored, baseline: AreaScored | None) -> AreaScores:
    auroc = scored.classes.metrics.index("macro_auroc")
    over = None
    if baseline is not None:
        other = baseline.classes
        gain = scored.classes.resampled[:, auroc] - other.resampled[:, auroc]
        over = estimate(scored.classes.values[auroc] - other.values[auroc], gain)
    return AreaScores(
        auroc=scored.classes.estimates()["macro_auroc"],
        average_precision=scored.average_precision,
        dice=scored.dice,
        over_rgb=over,
    )
