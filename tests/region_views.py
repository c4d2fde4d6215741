"""Views of images together with what region ids become in them."""

from dataclasses import dataclass

import numpy as np
import torch

from dirl.prior.coverage import pixel_share
from dirl.prior.matching import coverage_in
from dirl.views import geometry
from dirl.views.batch import make_views


@dataclass(frozen=True)
class RegionViews:
    """A `ViewBatch` with coverage ``(v, b, r, gh, gw)`` and the share of each token inside the tile."""

    images: torch.Tensor
    affines: np.ndarray
    coverage: torch.Tensor
    valid: torch.Tensor


def views_of(images, regions, samples, config, *, seed, patch_px, n_regions=2):
    """Make the views, and what a dense term makes of the regions; None stands for no region anywhere."""
    ids = torch.zeros(len(images), *images.shape[2:], dtype=torch.uint8) if regions is None else regions
    return tuple(
        RegionViews(
            group.images,
            group.affines,
            coverage_in(ids, group, n_regions, patch_px),
            valid(ids, group, patch_px),
        )
        for group in make_views(images, samples, config, seed=seed)
    )


def valid(ids, group, patch_px):
    """Share of each token that lies inside the tile."""
    places = [torch.from_numpy(affines.astype(np.float32)) for affines in group.affines]
    inside = [geometry.sample_regions(ids, place, group.size_px)[1] for place in places]
    return torch.stack([pixel_share(each, patch_px) for each in inside])
