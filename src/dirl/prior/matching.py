"""Which regions of two views correspond: one small class for each setting of ``dense.match``.

Each returns coverage. Region k of view 1 is matched with region k of view 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.core.randomness import hashes, uniforms
from dirl.prior.coverage import coverage, pixel_share
from dirl.views.batch import ViewBatch
from dirl.views.geometry import centres, invert, sample_regions

# A nucleus is followed if every view shows at least this share of its area.
LEAST_VISIBLE = 0.5


@dataclass(frozen=True)
class Semantic:
    """``semantic``: a region with the region of the same name.

    Attributes
    ----------
    count
        Number of regions r.
    min_area
        Share of a view that a region must cover to be present in it.
    """

    count: int
    min_area: float
    interchangeable = False
    area_of_nuclei = True

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return each region's share of each patch token, ``(v, b, r, gh, gw)`` for each group of views.

        The ids ``(b, H, W)`` of the tiles are from a `dirl.prior.source.RegionSource`. The groups are the
        global views and, if there are any, the local ones. Each sample has a counter, ``(b,)``.
        """
        return [coverage_in(ids, group, self.count, patch_px) for group in views]


@dataclass(frozen=True)
class Overlap(Semantic):
    """``overlap``: as ``semantic``, but the coverage of a token is multiplied by a factor.

    The factor is the share of the token's area that all other global views show, too.
    """

    area_of_nuclei = False

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return each region's share of each patch token, see `Semantic.coverage`."""
        shares = super().coverage(ids, views, samples, patch_px)
        for share, group in zip(shares, views, strict=True):
            share *= shared_with(views[0], group, patch_px)[:, :, None]
        return shares


@dataclass(frozen=True)
class Instance:
    """``instance``: a nucleus with itself.

    Candidates are nuclei at least half visible in all global views. Some are drawn anew for each sample. A
    local view takes part if it shows at least half of the nucleus too. ``min_area`` is not used here.

    Attributes
    ----------
    count
        The most nuclei of a tile that are followed, each in a slot of its own.
    seed
        Key of the choice.
    """

    count: int
    seed: int
    min_area = 0.0
    interchangeable = True
    area_of_nuclei = False

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return each nucleus's share of each patch token, see `Semantic.coverage`; 0 in empty slots."""
        whole, *local = views
        slots = choose_nuclei(ids, whole.affines, whole.size_px, self.count, seed=self.seed, samples=samples)
        shares = [coverage_in(slots, group, self.count, patch_px) for group in views]
        for share, group in zip(shares[1:], local, strict=True):
            visible = [visible_share(slots, affines, group.size_px, self.count) for affines in group.affines]
            share *= (torch.stack(visible) >= LEAST_VISIBLE)[:, :, :, None, None]
        return shares


Matching = Semantic | Instance
"""How regions of two views correspond.

Regions are ``interchangeable`` if they have no names, such as single nuclei: they are rows of one region in
the loss. ``area_of_nuclei`` tells whether coverage may be logged as the area of nuclei.
"""


def coverage_in(ids: Tensor, views: ViewBatch, count: int, patch_px: int) -> Tensor:
    """Return the share ``(v, b, count, gh, gw)`` of each patch token that each id from 1 has."""
    shares = []
    for affines in views.affines:
        places = torch.from_numpy(affines.astype(np.float32)).to(ids.device)
        shares.append(coverage(sample_regions(ids, places, views.size_px)[0], count, patch_px))
    return torch.stack(shares)


def shared_with(whole: ViewBatch, views: ViewBatch, patch_px: int) -> Tensor:
    """Return the share ``(v, b, gh, gw)`` of each token that every other global view, of `whole`, shows."""
    shares = []
    for view, affines in enumerate(views.affines):
        others = np.delete(whole.affines, view, axis=0) if views is whole else whole.affines
        shares.append(
            share_in_others(
                affines,
                others,
                size_px=views.size_px,
                other_px=whole.size_px,
                patch_px=patch_px,
                device=whole.images.device,
            )
        )
    return torch.stack(shares)


def share_in_others(
    affines: NDArray[np.float64],
    others: NDArray[np.float64],
    *,
    size_px: int,
    other_px: int,
    patch_px: int,
    device: torch.device,
) -> Tensor:
    """Return the share ``(b, gh, gw)`` of each patch token's footprint that lies in all of the other views.

    The affines of the view, ``(b, 2, 3)``, and of the others, ``(o, b, 2, 3)``, map view pixels to tile
    pixels. The share is counted in the view's pixels: a pixel counts if its centre is inside.
    """
    seen = torch.ones(len(affines), size_px, size_px, dtype=torch.bool, device=device)
    for other in invert(others):
        between = other[:, :, :2] @ affines
        between[:, :, 2] += other[:, :, 2]
        x, y = centres(torch.from_numpy(between.astype(np.float32)).to(device), (size_px, size_px))
        seen &= (x >= 0) & (x < other_px) & (y >= 0) & (y < other_px)
    return pixel_share(seen, patch_px)


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

    In the numbers of nuclei ``(b, H, W)`` 0 is none. Affines ``(v, b, 2, 3)`` map view pixels to tile pixels.
    Return ``(b, H, W)``: 0, or 1 + the slot of a chosen nucleus. There are at most `most` slots. A tile with
    fewer nuclei leaves the last ones empty.
    """
    count = int(nuclei.max())
    least = torch.stack([visible_share(nuclei, places, size_px, count) for places in affines]).amin(dim=0)
    shared = least >= LEAST_VISIBLE
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


def visible_share(nuclei: Tensor, affines: NDArray[np.float64], size_px: int, count: int) -> Tensor:
    """Return the share ``(b, count)`` of each nucleus's area that a view shows, counted in the tile's pixels.

    Numbers of nuclei ``(b, H, W)`` are 0 for none, and at most `count`. A number that does not occur has 0.
    The affines ``(b, 2, 3)`` map view pixels to tile pixels.
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
