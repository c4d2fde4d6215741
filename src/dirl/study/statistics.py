"""Differences of two arms over training seeds: paired t-test, test of no loss, hierarchical bootstrap."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from dirl.core.intervals import Estimate, estimate
from dirl.study.summary import Paired, UnitSums

Floats = NDArray[np.float64]

LEVEL = 0.95
LEAST_SEEDS = 3
ALIKE = 1e-12  # spread of differences, relative to the values, that is rounding error
RESAMPLES, SEED = 2000, 0


def paired(arm: Mapping[int, float | None], against: Mapping[int, float | None]) -> Paired:
    """Compare the values of two arms by seed. A seed without a value on both sides is left out."""
    a, b = ({seed: v for seed, v in values.items() if v is not None} for values in (arm, against))
    seeds = sorted(a.keys() & b.keys())
    values = np.array([[a[seed], b[seed]] for seed in seeds]).reshape(-1, 2)
    differences = values[:, 0] - values[:, 1]
    n = len(seeds)
    mean = float(differences.mean()) if n else None
    sd = float(differences.std(ddof=1)) if n > 1 else None
    if mean is None or sd is None or n < LEAST_SEEDS or sd <= ALIKE * np.abs(values).max():
        return Paired(n, mean, sd, None, None, None)
    error = sd / np.sqrt(n)
    reach = float(stats.t.ppf((1 + LEVEL) / 2, n - 1) * error)
    p = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    return Paired(n, mean, sd, mean - reach, mean + reach, p)


def p_of_loss(found: Paired, margin: float) -> float | None:
    """One-sided p of the hypothesis that a measure falls by `margin` or more; None without a t-test.

    The test shifts the paired t-test by the margin. It is below .025 where the 95 % interval of the
    difference lies above ``-margin``.
    """
    if found.difference is None or found.sd is None or found.low is None:
        return None
    error = found.sd / np.sqrt(found.seeds)
    return float(stats.t.sf((found.difference + margin) / error, found.seeds - 1))


def hierarchical(arm: Sequence[UnitSums], against: Sequence[UnitSums]) -> Estimate | None:
    """Difference of two arms, with an interval over seeds and over the units that all runs are measured on.

    A resample draws seeds with replacement, and then units (slides, patients, groups or tiles). All runs
    are measured on the same units, so one draw of units serves all seeds of a resample. Drawn anew for each
    seed, the peculiarities of a unit would seem to average out.

    Parameters
    ----------
    arm, against
        Sums of each seed's run, in the same order of seeds. A run's value is the mean over classes of the sum
        of its units' numerators over that of their denominators. A class that is not drawn is left out.

    Returns
    -------
    Estimate or None
        None with fewer than three seeds, fewer than two units, or runs that have other units.

    References
    ----------
    A. B. Owen, *The pigeonhole bootstrap*, Annals of Applied Statistics 1, 2007.
    """
    units = sorted(arm[0]) if arm else []
    if (
        len(arm) < LEAST_SEEDS
        or len(units) < 2
        or any(run.keys() != arm[0].keys() for run in (*arm, *against))
    ):
        return None
    generator = np.random.default_rng(SEED)
    seeds = generator.multinomial(len(arm), np.full(len(arm), 1 / len(arm)), size=RESAMPLES) / len(arm)
    times = generator.multinomial(len(units), np.full(len(units), 1 / len(units)), size=RESAMPLES)
    drawn = np.concatenate([np.ones((1, len(units))), times])
    differences = np.stack(
        [_values(a, units, drawn) - _values(b, units, drawn) for a, b in zip(arm, against, strict=True)],
        axis=1,
    )
    weights = np.concatenate([np.full((1, len(arm)), 1 / len(arm)), seeds])
    value, *resampled = (differences * weights).sum(axis=1)
    return estimate(float(value), np.array(resampled))


def _values(run: UnitSums, units: Sequence[str], times: Floats) -> Floats:
    """Values of a run where each unit counts `times` (n, units)."""
    sums = np.array([run[unit] for unit in units])  # (units, 2, classes)
    above, below = times @ sums[:, 0], times @ sums[:, 1]
    known = below > 0
    shares = np.divide(above, below, out=np.zeros_like(above), where=known)
    with np.errstate(invalid="ignore"):
        values: Floats = shares.sum(axis=1) / known.sum(axis=1)
    return values
