"""How much of each patch token a region covers, as exact counts of pixels."""

import torch
from torch import Tensor


def coverage(ids: Tensor, n_regions: int, patch_px: int) -> Tensor:
    """Count each region's pixels in each patch.

    Parameters
    ----------
    ids
        Region ids ``(..., h, w)``: 0 belongs to no region, ``r + 1`` to region ``r``. Sides are multiples
        of `patch_px`.
    n_regions
        Number of regions ``r``.
    patch_px
        Side of a patch.

    Returns
    -------
    Tensor
        Shares ``(..., r, h / patch_px, w / patch_px)``, which sum to at most 1 over the regions.
    """
    return torch.stack([pixel_share(ids == r + 1, patch_px) for r in range(n_regions)], dim=-3)


def pixel_share(mask: Tensor, patch_px: int) -> Tensor:
    """Return the share of each patch's pixels at which a bool mask ``(..., h, w)`` is true."""
    *lead, height, width = mask.shape
    blocks = mask.reshape(*lead, height // patch_px, patch_px, width // patch_px, patch_px)
    # Summed row by row as integers: exact, and float32 holds the quotient's operands exactly too.
    return blocks.sum(dim=(-3, -1)).float() / patch_px**2


def prior_contrast(share: Tensor) -> Tensor:
    """Return how far a region's coverage of tokens is from the same on every token.

    Parameters
    ----------
    share
        Coverage of one region, any shape, in [0, 1].

    Returns
    -------
    Tensor
        ``Var(c) / (c̄ (1 - c̄))``: 1 when every token is all or nothing, 0 when all tokens are alike, NaN
        when the region covers nothing or everything.
    """
    mean = share.mean()
    return share.var(correction=0) / (mean * (1 - mean))
