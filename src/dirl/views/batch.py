"""All views of a batch of tiles: images, coverage and validity, on the device that the tiles are on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import ViewsConfig
from dirl.randomness import uniforms
from dirl.views import colour, geometry
from dirl.views.coverage import coverage, pixel_share


@dataclass(frozen=True)
class ViewBatch:
    """Augmented views of ``b`` tiles, all of one size.

    Attributes
    ----------
    images
        Float ``(v, b, 3, h, w)`` in [0, 1], not normalised.
    coverage
        Share of each patch token that each region covers, ``(v, b, r, gh, gw)``; None without regions.
    valid
        Share of each patch token that lies inside the tile, ``(v, b, gh, gw)``.
    affines
        View pixels to tile pixels, float64 array ``(v, b, 2, 3)``.
    """

    images: Tensor
    coverage: Tensor | None
    valid: Tensor
    affines: NDArray[np.float64]


@torch.no_grad()
def make_views(
    images: Tensor,
    regions: Tensor | None,
    samples: NDArray[np.int64] | Tensor,
    config: ViewsConfig,
    *,
    seed: int,
    patch_px: int,
    n_regions: int = 2,
) -> ViewBatch:
    """Make the views of a batch, a function of (seed, sample) alone.

    Parameters
    ----------
    images
        Tiles, uint8 ``(b, 3, H, W)``.
    regions
        Region ids, uint8 ``(b, H, W)``: 0 belongs to no region, ``r + 1`` to region ``r``. None where no
        coverage is wanted; the images are the same either way.
    samples
        Counter of each sample, ``(b,)``: its position in the run.
    config
        Ranges of the augmentations.
    seed
        Key of the random numbers.
    patch_px
        Side of a patch token in view pixels; divides the view's side.
    n_regions
        Number of regions ``r``.
    """
    counters = np.asarray(samples, dtype=np.int64)
    pixels = images.float().div_(255)
    tile_px = (images.shape[2], images.shape[3])
    made, shares, valid, places = [], [], [], []
    for view in range(config.count):
        draws = uniforms(seed, counters * config.count + view, geometry.DRAWS + colour.DRAWS)
        affines = geometry.draw_affines(draws[:, : geometry.DRAWS], tile_px, config)
        crops = geometry.sample_images(pixels, affines, config.size_px)
        made.append(colour.augment(crops, draws[:, geometry.DRAWS :], config))
        places.append(affines)
        ids = images.new_zeros(len(images), 1, 1).expand(-1, *tile_px) if regions is None else regions
        on_device = torch.from_numpy(affines.astype(np.float32)).to(images.device)
        seen, inside = geometry.sample_regions(ids, on_device, config.size_px)
        valid.append(pixel_share(inside, patch_px))
        if regions is not None:
            shares.append(coverage(seen, n_regions, patch_px))
    return ViewBatch(
        images=torch.stack(made),
        coverage=torch.stack(shares) if shares else None,
        valid=torch.stack(valid),
        affines=np.stack(places),
    )
