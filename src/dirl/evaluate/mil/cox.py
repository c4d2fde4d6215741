"""Survival: Cox's partial likelihood as the loss, concordance as the score."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.core.intervals import Estimate, Units, estimate

Floats = NDArray[np.float64]


def cox_loss(risks: Tensor, times: Tensor, events: Tensor) -> Tensor:
    """Negative log partial likelihood, mean over the events, with Breslow's handling of equal times.

    ``-1/E Σ_{i: event} (r_i - log Σ_{j: t_j ≥ t_i} exp r_j)``, Cox 1972.

    Parameters
    ----------
    risks : Tensor of shape (n,)
        Log risks.
    times : Tensor of shape (n,)
    events : Tensor of shape (n,), bool
        False if the time is that of the last follow-up.

    Returns
    -------
    Tensor of shape ()
        0, with a gradient of 0, where there is no event.
    """
    at_risk = times[None, :] >= times[:, None]
    totals = torch.where(at_risk, risks[None, :], -torch.inf).logsumexp(dim=1)
    return ((totals - risks) * events).sum() / events.sum().clamp(min=1)


@dataclass(frozen=True)
class Concordance:
    """Concordance of one model's risks with what happened.

    Attributes
    ----------
    value
        NaN where nothing can be compared.
    resampled : ndarray of shape (resamples,)
        The same on resampled units.
    """

    value: float
    resampled: Floats

    @property
    def first(self) -> tuple[float, Floats]:
        """The index, and the same on resampled units (resamples,)."""
        return self.value, self.resampled

    def estimates(self) -> dict[str, Estimate]:
        """The index with its interval."""
        return {"concordance": estimate(self.value, self.resampled)}

    def minus(self, other: "Concordance") -> Estimate:
        """Difference, paired by resample."""
        return estimate(self.value - other.value, self.resampled - other.resampled)


def concordance(
    risks: Floats, times: Floats, events: NDArray[np.bool_], folds: NDArray[np.int64], units: Units
) -> Concordance:
    """Harrell's concordance index, and again on units drawn with replacement.

    A pair counts if one of the two had the event earlier. The index is the share of pairs in which that one
    has the higher risk; equal risks count half. With equal times, an event is before a follow-up. Pairs lie
    within a fold, since the risks of two models have no common scale.

    Parameters
    ----------
    risks, times, events, folds : ndarray of shape (n,)
    units
        Units to draw. The same units give the same draws, so results can be paired.
    """
    earlier = (times[:, None] < times) | ((times[:, None] == times) & ~events)
    counted = (earlier & events[:, None] & (folds[:, None] == folds)).astype(np.float64)
    agreed = counted * ((risks[:, None] > risks) + 0.5 * (risks[:, None] == risks))
    count = len(units)
    generator = np.random.default_rng(units.seed)
    times_drawn = generator.multinomial(count, np.full(count, 1 / count), size=units.resamples)
    weights = np.concatenate([np.ones((1, len(risks))), times_drawn[:, units.of_tile]])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = ((weights @ agreed) * weights).sum(axis=1) / ((weights @ counted) * weights).sum(axis=1)
    return Concordance(float(found[0]), found[1:])
