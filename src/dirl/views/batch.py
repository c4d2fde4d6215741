"""All views of a batch of tiles: images, coverage and validity, on the device that the tiles are on."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import ViewsConfig
from dirl.core.randomness import hashes, uniforms
from dirl.prior.coverage import coverage, pixel_share
from dirl.prior.instances import LEAST_SHOWN, choose, shown
from dirl.prior.overlap import share_in_others
from dirl.views import colour, geometry, stain

# Columns of a view's random numbers. A new quantity goes behind the others, so that they stay what they were.
_PLACE, _COLOUR, _STAIN = [*range(6), 15], slice(6, 15), slice(16, 16 + stain.DRAWS)
_DRAWS = _STAIN.stop


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


@dataclass(frozen=True)
class _Plan:
    """Views of one size before they are made: their kinds, random numbers ``(v, b, columns)`` and places."""

    size_px: int
    kinds: tuple[int, ...]
    draws: NDArray[np.float64]
    affines: NDArray[np.float64]


@torch.no_grad()
def make_views(
    images: Tensor,
    ids: Tensor | None,
    samples: NDArray[np.int64] | Tensor,
    config: ViewsConfig,
    *,
    seed: int,
    patch_px: int,
    n_regions: int = 2,
    overlap: bool = False,
    instances: int = 0,
) -> tuple[ViewBatch, ...]:
    """Make the views of a batch, a function of (seed, sample) alone, but for the partner of a stain swap.

    Parameters
    ----------
    images
        Tiles, uint8 ``(b, 3, H, W)``.
    ids
        Region ids, integers ``(b, H, W)``: 0 belongs to no region, ``r + 1`` to region ``r``; or numbers of
        nuclei, see `instances`. None where no coverage is wanted; the images are the same either way.
    samples
        Counter of each sample, ``(b,)``: its position in the run.
    config
        Ranges of the augmentations.
    seed
        Key of the random numbers.
    patch_px
        Side of a patch token in view pixels; divides the views' sides.
    n_regions
        Number of regions ``r``.
    overlap
        Multiply the coverage of each token by the share of its footprint that lies in every other global
        view too.
    instances
        Read `ids` as numbers of nuclei from 1 and follow at most so many of each tile, one a region: nuclei
        that every global view shows at least half of, drawn anew for each sample. Coverage is 0 in a slot
        that stays empty, and in a local view that shows less than half of its nucleus.

    Returns
    -------
    tuple of ViewBatch
        The global views and, where the configuration has any, the local ones.
    """
    counters, tile_px = np.asarray(samples, dtype=np.int64), (images.shape[2], images.shape[3])
    plans = _plan(counters, tile_px, config, seed)
    whole = plans[0]
    if ids is not None and instances:
        ids = choose(ids, whole.affines, whole.size_px, instances, seed=seed, samples=counters)
        n_regions = instances

    pixels = images.float().div_(255)
    levels = stain.levels(pixels) if config.p_stain_swap else None
    groups = []
    for plan in plans:
        shares, valid = _regions(images, ids, plan, n_regions, patch_px)
        if shares is not None and overlap:
            shares *= _overlap(plan, whole, patch_px, images.device)[:, :, None]
        if shares is not None and ids is not None and instances and plan is not whole:
            enough = [shown(ids, affines, plan.size_px, n_regions) >= LEAST_SHOWN for affines in plan.affines]
            shares *= torch.stack(enough)[:, :, :, None, None]
        groups.append(ViewBatch(_images(pixels, plan, config, levels), shares, valid, plan.affines))
    return tuple(groups)


def _plan(
    counters: NDArray[np.int64], tile_px: tuple[int, int], config: ViewsConfig, seed: int
) -> list[_Plan]:
    """Draw the global views and, where there are any, the local ones."""
    # The counters of the global views fill the whole of their stream: local views have another.
    streams = [(seed, config.count, config.size_px, config.crop_area)]
    if config.local_count:
        key = int(hashes(seed, ["local views"])[0])
        streams.append((key, config.local_count, config.local_size_px, config.local_crop_area))
    plans: list[_Plan] = []
    for stream, count, size_px, area in streams:
        draws = np.stack([uniforms(stream, counters * count + view, _DRAWS) for view in range(count)])
        affines = [
            geometry.draw_affines(numbers[:, _PLACE], tile_px, config, crop_area=area, size_px=size_px)
            for numbers in draws
        ]
        kinds = (config.count,) * count if plans else tuple(range(count))
        plans.append(_Plan(size_px, kinds, draws, np.stack(affines)))
    return plans


def _images(pixels: Tensor, plan: _Plan, config: ViewsConfig, levels: Tensor | None) -> Tensor:
    views = []
    for kind, draws, affines in zip(plan.kinds, plan.draws, plan.affines, strict=True):
        crops = geometry.sample_images(pixels, affines, plan.size_px)
        if config.stain_jitter or levels is not None:
            crops = stain.restain(crops, draws[:, _STAIN], config, levels)
        views.append(colour.augment(crops, draws[:, _COLOUR], config, kind))
    return torch.stack(views)


def _regions(
    images: Tensor, ids: Tensor | None, plan: _Plan, n_regions: int, patch_px: int
) -> tuple[Tensor | None, Tensor]:
    """Return coverage, or None without ids, and the share of each token inside the tile."""
    looked_at = images.new_zeros(len(images), 1, 1).expand(-1, *images.shape[2:]) if ids is None else ids
    shares, valid = [], []
    for affines in plan.affines:
        on_device = torch.from_numpy(affines.astype(np.float32)).to(images.device)
        seen, inside = geometry.sample_regions(looked_at, on_device, plan.size_px)
        valid.append(pixel_share(inside, patch_px))
        if ids is not None:
            shares.append(coverage(seen, n_regions, patch_px))
    return torch.stack(shares) if shares else None, torch.stack(valid)


def _overlap(plan: _Plan, whole: _Plan, patch_px: int, device: torch.device) -> Tensor:
    """Return the share ``(v, b, gh, gw)`` of each token that every other global view shows too."""
    shares = []
    for view, affines in enumerate(plan.affines):
        others = np.delete(whole.affines, view, axis=0) if plan is whole else whole.affines
        shares.append(
            share_in_others(
                affines,
                others,
                size_px=plan.size_px,
                other_px=whole.size_px,
                patch_px=patch_px,
                device=device,
            )
        )
    return torch.stack(shares)
