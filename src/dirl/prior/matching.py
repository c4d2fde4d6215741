"""Which regions of two views correspond: one small class for each setting of ``dense.match``.

All of them answer with coverage, the share of each patch token that a region has. Two views match the rows
that have the same number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.prior.coverage import coverage
from dirl.prior.instances import LEAST_SHOWN, choose, shown
from dirl.prior.overlap import share_in_others
from dirl.views.batch import ViewBatch
from dirl.views.geometry import sample_regions


@dataclass(frozen=True)
class ByName:
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
class ByNameInOverlap(ByName):
    """``overlap``: by name, and a token counts by the share of it that all other global views show too."""

    area_of_nuclei = False

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return each region's share of each patch token, see `ByName.coverage`."""
        shares = super().coverage(ids, views, samples, patch_px)
        for share, group in zip(shares, views, strict=True):
            share *= shared_with(views[0], group, patch_px)[:, :, None]
        return shares


@dataclass(frozen=True)
class ByNucleus:
    """``instance``: a nucleus with itself.

    Nuclei that every global view shows at least half of are drawn anew for each sample. A local view takes
    part if it shows half of the nucleus too. Visibility decides whether a nucleus is present, not its size.

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
        """Return each nucleus's share of each patch token, see `ByName.coverage`; 0 in empty slots."""
        whole, *local = views
        slots = choose(ids, whole.affines, whole.size_px, self.count, seed=self.seed, samples=samples)
        shares = [coverage_in(slots, group, self.count, patch_px) for group in views]
        for share, group in zip(shares[1:], local, strict=True):
            enough = [
                shown(slots, affines, group.size_px, self.count) >= LEAST_SHOWN for affines in group.affines
            ]
            share *= torch.stack(enough)[:, :, :, None, None]
        return shares


Matching = ByName | ByNucleus
"""How regions of two views correspond.

``interchangeable`` regions have no identity beyond their tile: all of them are rows of one region.
``area_of_nuclei`` tells whether the coverage of nuclei is the area that they have in the view.
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
