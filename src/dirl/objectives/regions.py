"""Region tokens: one vector for each region of a view."""

from dataclasses import dataclass

from torch import Tensor

from dirl.encoders.encoder import EncoderOutput

EPSILON = 1e-6


@dataclass(frozen=True)
class RegionTokens:
    """What stands for the regions of ``b`` views.

    Attributes
    ----------
    tokens
        ``(b, r, d)``; meaningless where the region is absent.
    present
        Bool ``(b, r)``: the region has enough mass in the view.
    mass
        Share of the view that the region covers, ``(b, r)``.
    """

    tokens: Tensor
    present: Tensor
    mass: Tensor


def pool(patches: Tensor, coverage: Tensor) -> Tensor:
    """Return the coverage-weighted mean of the patch tokens.

    Parameters
    ----------
    patches
        ``(b, n, d)``.
    coverage
        ``(b, r, n)``.

    Returns
    -------
    Tensor
        ``(b, r, d)``; zero for a region that covers nothing.
    """
    weights = coverage / coverage.sum(dim=-1, keepdim=True).clamp(min=EPSILON)
    return weights.to(patches.dtype) @ patches


def extract(output: EncoderOutput, coverage: Tensor, min_area: float) -> RegionTokens:
    """Take the encoder's own region rows where it made them, else pool its patch tokens.

    Parameters
    ----------
    output
        Tokens of ``b`` views.
    coverage
        ``(b, r, gh, gw)``.
    min_area
        Share of a view that a region must cover to be present in it.
    """
    mass = coverage.mean(dim=(-2, -1))
    tokens = pool(output.patches, coverage.flatten(2)) if output.regions is None else output.regions
    return RegionTokens(tokens=tokens, present=mass > max(min_area, EPSILON), mass=mass)
