"""Single nuclei that are followed through all views of a tile (``dense.match: instance``)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.core.randomness import hashes, uniforms
from dirl.views.geometry import centres, invert

LEAST_SHOWN = 0.5


def choose_nuclei(
    nuclei: Tensor,
    affines: NDArray[np.float64],
    size_px: int,
    most: int,
    *,
    seed: int,
    samples: NDArray[np.int64],
) -> Tensor:
    """Choose nuclei of each tile, at least half of each shown in every view, and number them.

    Parameters
    ----------
    nuclei
        Numbers of nuclei ``(b, H, W)``: 0 is none.
    affines
        View pixels to tile pixels, ``(v, b, 2, 3)``.
    size_px
        Side of the views.
    most
        Most nuclei of a tile.
    seed, samples
        Key of the choice, and counter ``(b,)`` of each sample.

    Returns
    -------
    Tensor
        ``(b, H, W)``: 0, or 1 + the slot of a chosen nucleus. There are at most `most` slots; a tile with
        fewer nuclei leaves the last ones empty.
    """
    count = int(nuclei.max())
    shared = (
        torch.stack([share_shown(nuclei, places, size_px, count) for places in affines]).amin(dim=0) >= LEAST_SHOWN
    )
    key = int(hashes(seed, ["nuclei"])[0])
    lots = torch.from_numpy(uniforms(key, samples, count)).to(nuclei.device)
    # A nucleus that cannot be chosen gets a number behind all others.
    order = torch.where(shared, lots, 2.0).argsort(dim=1)[:, :most]
    slots = torch.arange(1, order.shape[1] + 1, device=nuclei.device).expand_as(order) * shared.gather(
        1, order
    )
    table = torch.zeros(len(nuclei), count + 1, dtype=torch.int64, device=nuclei.device)
    table.scatter_(1, order + 1, slots)
    return table.gather(1, nuclei.flatten(1).long()).view_as(nuclei)


def share_shown(nuclei: Tensor, affines: NDArray[np.float64], size_px: int, count: int) -> Tensor:
    """Return the share of each nucleus's area that a view shows.

    Parameters
    ----------
    nuclei
        Numbers of nuclei ``(b, H, W)``: 0 is none, the others at most `count`.
    affines
        View pixels to tile pixels, ``(b, 2, 3)``.
    size_px
        Side of the views.
    count
        Largest number that may occur.

    Returns
    -------
    Tensor
        ``(b, count)``, counted over pixels of the tile; 0 for a number that does not occur.
    """
    back = torch.from_numpy(invert(affines).astype(np.float32)).to(nuclei.device)
    height, width = nuclei.shape[1:]
    x, y = centres(back, (height, width))
    inside = (x >= 0) & (x < size_px) & (y >= 0) & (y < size_px)
    flat = nuclei.flatten(1).long()
    # Integers up to 2²⁴ are exact in float32, so the order of the sum does not matter.
    seen, whole = (
        torch.zeros(len(nuclei), count + 1, device=nuclei.device).scatter_add_(1, flat, pixels.flatten(1))
        for pixels in (inside.float(), torch.ones_like(x))
    )
    return seen[:, 1:] / whole[:, 1:].clamp(min=1)
