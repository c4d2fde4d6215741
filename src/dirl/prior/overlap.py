"""Which part of a view is also shown by the other views."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.prior.coverage import pixel_share
from dirl.views.geometry import centres, invert


def share_in_others(
    affines: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    size_px: int,
    other_px: int,
    patch_px: int,
    device: torch.device,
) -> Tensor:
    """Return the share of each patch token's footprint that lies in all of the other views.

    Parameters
    ----------
    affines
        View pixels to tile pixels, ``(b, 2, 3)``.
    others
        The same of the other views, ``(o, b, 2, 3)``.
    size_px, other_px
        Sides of the view and of the others.
    patch_px
        Side of a patch token in pixels of the view.
    device
        Device of the result.

    Returns
    -------
    Tensor
        ``(b, gh, gw)``, counted over the centres of the view's pixels.
    """
    seen = torch.ones(len(affines), size_px, size_px, dtype=torch.bool, device=device)
    for other in invert(others):
        between = other[:, :, :2] @ affines
        between[:, :, 2] += other[:, :, 2]
        x, y = centres(torch.from_numpy(between.astype(np.float32)).to(device), (size_px, size_px))
        seen &= (x >= 0) & (x < other_px) & (y >= 0) & (y < other_px)
    return pixel_share(seen, patch_px)
