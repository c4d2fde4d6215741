"""Which regions of two views correspond: one small class for each setting of ``dense.match``.

Each returns coverage. Region k of view 1 is matched with region k of view 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.prior.coverage import coverage, pixel_share
from dirl.prior.instances import LEAST_SHOWN, choose_nuclei, share_shown
from dirl.views.batch import ViewBatch
from dirl.views.geometry import centres, invert, sample_regions


@dataclass(frozen=True)
class Semantic:
    """``semantic``: a region with the region of the same name.

    Attributes
    ----------
    count
        Number of regions ``r``.
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
        """Return each region's share of each patch token.

        Parameters
        ----------
        ids
            Ids of the tiles, integers ``(b, H, W)``, from a `dirl.prior.source.RegionSource`.
        views
            The global views and, if there are any, the local ones.
        samples
            Counter of each sample, ``(b,)``.
        patch_px
            Side of a patch token in pixels of a view; it divides the sides of the views.

        Returns
        -------
        list of Tensor
            ``(v, b, r, gh, gw)`` for each group of views.
        """
        return [coverage_in(ids, group, self.count, patch_px) for group in views]


@dataclass(frozen=True)
class Overlap(Semantic):
    """``overlap``: as ``semantic``, but coverage is multiplied.

    The factor is the share of the token that all other global views show.
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
            enough = [
                share_shown(slots, affines, group.size_px, self.count) >= LEAST_SHOWN for affines in group.affines
            ]
            share *= torch.stack(enough)[:, :, :, None, None]
        return shares


Matching = Semantic | Instance
"""How regions of two views correspond.

``interchangeable`` regions have no class, so they share one head and one set of negatives.
``area_of_nuclei`` is true if coverage can be logged as nuclear area.
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
        ``(b, gh, gw)``, counted in the view's pixels: a pixel counts if its centre is inside.
    """
    seen = torch.ones(len(affines), size_px, size_px, dtype=torch.bool, device=device)
    for other in invert(others):
        between = other[:, :, :2] @ affines
        between[:, :, 2] += other[:, :, 2]
        x, y = centres(torch.from_numpy(between.astype(np.float32)).to(device), (size_px, size_px))
        seen &= (x >= 0) & (x < other_px) & (y >= 0) & (y < other_px)
    return pixel_share(seen, patch_px)
