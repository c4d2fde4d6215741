"""Differences between arms where the training seed is the replicate."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95
LEAST_SEEDS = 3
ALIKE = 1e-12
SEEDS_OF_A_CLAIM = 10  # with fewer seeds a difference is only described


@dataclass(frozen=True)
class Paired:
    """A difference between two arms over the seeds that both have.

    Attributes
    ----------
    seeds
        Number of seeds.
    difference, sd
        Mean and standard deviation of the paired differences. The mean is None with no seed, the standard
        deviation with fewer than two.
    low, high, p
        95 % interval and two-sided p of the paired t-test. None with fewer than three seeds, or if all
        differences are the same.
    """

    seeds: int
    difference: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None

    @property
    def turned(self) -> "Paired":
        """The same with the arms exchanged."""
        difference, low, high = (
            None if end is None else -end for end in (self.difference, self.high, self.low)
        )
        return replace(self, difference=difference, low=low, high=high)


def paired(arm: Mapping[int, float | None], against: Mapping[int, float | None]) -> Paired:
    """Compare an arm with another, seed by seed.

    Parameters
    ----------
    arm, against
        A value for each seed. A seed without a value on both sides is left out.
    """
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
