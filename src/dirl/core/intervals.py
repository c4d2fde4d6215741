"""Bootstrap intervals of means and of ratios of sums, and Holm's correction of several p-values.

Equal units and seed give paired draws.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]

UnitKind = Literal["tiles", "slides", "patients", "groups"]

ENOUGH_SLIDES = 5
CHUNK = 64


@dataclass(frozen=True)
class Units:
    """Units to resample: slides if there are enough, else tiles.

    Attributes
    ----------
    kind
        What a unit is.
    of_tile : ndarray of shape (t,)
        Number of the unit of each tile.
    resamples
        Number of resamples.
    seed
        Key of the draws. Everything measured on the same units gets the same draws.
    """

    kind: UnitKind
    of_tile: NDArray[np.int64]
    resamples: int
    seed: int

    def __len__(self) -> int:
        return int(self.of_tile.max()) + 1


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % percentile interval; None where there is no number."""

    value: float | None
    low: float | None
    high: float | None

    def text(self, spec: str, ends: str | None = None, *, before: str = "", between: str = "–") -> str:
        """Write the value and, in brackets, its interval; a dash if there is no value.

        `spec` and `ends` are the formats of the value and of both ends, by default the same. `before` and
        `between` are text before the interval and between its ends.
        """
        if self.value is None:
            return "–"
        value = f"{self.value:{spec}}"
        if self.low is None or self.high is None:
            return value
        low, high = (f"{end:{ends or spec}}" for end in (self.low, self.high))
        return f"{value} ({before}{low}{between}{high})"


def choose_units(slide_ids: NDArray[np.str_] | None, count: int, resamples: int, seed: int) -> Units:
    """Resample slides if the `count` tiles come from at least five, else tiles."""
    if slide_ids is None:
        return Units("tiles", np.arange(count), resamples, seed)
    slides, of_tile = np.unique(slide_ids, return_inverse=True)
    if len(slides) >= ENOUGH_SLIDES:
        return Units("slides", of_tile.astype(np.int64), resamples, seed)
    return Units("tiles", np.arange(count), resamples, seed)


def ratios(above: Floats, below: Floats, units: Units) -> tuple[Floats, Floats]:
    """Ratio of two sums over tiles (k,), and the same over resampled units (resamples, k), NaN if no tile
    counts.

    `above` and `below`, each (t, k), are each tile's numerator and denominator. A tile that does not count
    has 0 in both.
    """
    count = len(units)
    sums = np.zeros((2, count, above.shape[1]))
    for total, part in zip(sums, (above, below), strict=True):
        np.add.at(total, units.of_tile, part)
    generator = np.random.default_rng(units.seed)
    drawn = []
    with np.errstate(divide="ignore", invalid="ignore"):
        # In chunks, so that memory holds only a few resamples for any number of tiles.
        for start in range(0, units.resamples, CHUNK):
            size = min(CHUNK, units.resamples - start)
            times = generator.multinomial(count, np.full(count, 1 / count), size=size)
            drawn.append((times @ sums[0]) / (times @ sums[1]))
        return sums[0].sum(0) / sums[1].sum(0), np.concatenate(drawn)


def means(values: Floats, units: Units) -> tuple[Floats, Floats]:
    """Mean over tiles without NaN, and the same over resampled units; shapes as in `ratios`."""
    valid = ~np.isnan(values)
    return ratios(np.where(valid, values, 0), valid.astype(float), units)


def estimate(value: float, resampled: Floats) -> Estimate:
    """Value and 95 % percentile interval of its resamples (n,). Those that are not finite are left out."""
    kept = resampled[np.isfinite(resampled)]
    if not np.isfinite(value) or not len(kept):
        return Estimate(None, None, None)
    low, high = np.percentile(kept, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def holm(p: Sequence[float | None]) -> list[float | None]:
    """Adjust the p-values of a family of planned tests by Holm's step-down method.

    A test without a p-value stays without, but counts in the size of the family: it was planned.

    References
    ----------
    S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6,
    1979.
    """
    adjusted: list[float | None] = [None] * len(p)
    known = sorted((value, place) for place, value in enumerate(p) if value is not None)
    so_far = 0.0
    for rank, (value, place) in enumerate(known):
        so_far = max(so_far, min(1.0, (len(p) - rank) * value))
        adjusted[place] = so_far
    return adjusted
