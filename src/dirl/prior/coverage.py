"""Coverage: the share of a patch token's pixels that lie in a region. It is counted, not estimated."""

import torch
from torch import Tensor

# Side of a patch token above which nuclei and the rest have nearly the same tokens.
COARSE_UM = 8.0


def coverage(ids: Tensor, n_regions: int, patch_px: int) -> Tensor:
    """Return each region's share of each patch, ``(..., r, h / patch_px, w / patch_px)``.

    In the region ids ``(..., h, w)``, 0 belongs to no region, and ``k + 1`` to region ``k``. The sides are
    multiples of `patch_px`. Shares sum to at most 1 over the regions.
    """
    return torch.stack([pixel_share(ids == k + 1, patch_px) for k in range(n_regions)], dim=-3)


def pixel_share(mask: Tensor, patch_px: int) -> Tensor:
    """Return the share of each patch's pixels at which a bool mask ``(..., h, w)`` is true."""
    *lead, height, width = mask.shape
    blocks = mask.reshape(*lead, height // patch_px, patch_px, width // patch_px, patch_px)
    # Sums of integers, which float32 holds exactly.
    return blocks.sum(dim=(-3, -1)).float() / patch_px**2


def prior_contrast(share: Tensor) -> Tensor:
    """Return how much a region's coverage c, of any shape, differs between tokens: ``Var(c) / (c̄ (1 - c̄))``.

    It is 1 if the region covers each token fully or not at all, and 0 if it covers all tokens alike. It is
    NaN if the region covers nothing or everything.
    """
    mean = share.mean()
    return share.var(correction=0) / (mean * (1 - mean))
