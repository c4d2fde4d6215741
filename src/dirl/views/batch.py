"""All views of a batch of tiles, on the device of the tiles. Region ids follow in `dirl.prior.matching`."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import ViewsConfig
from dirl.core.randomness import hashes, uniforms
from dirl.views import geometry, stain
from dirl.views.colour import augment_colour

# Columns of a view's random numbers. Append new quantities, so that the existing ones keep their numbers.
_PLACE, _COLOUR, _STAIN = [*range(6), 15], slice(6, 15), slice(16, 16 + stain.DRAWS)
_DRAWS = _STAIN.stop


@dataclass(frozen=True)
class ViewBatch:
    """Augmented views of ``b`` tiles, all of one size: float ``(v, b, 3, h, w)`` in [0, 1], not normalised.

    `affines` map view pixels to tile pixels, float64 ``(v, b, 2, 3)``.
    """

    images: Tensor
    affines: NDArray[np.float64]

    @property
    def size_px(self) -> int:
        """Side of the views."""
        return self.images.shape[-1]


@dataclass(frozen=True)
class _Plan:
    """Views of one size before they are made: their kinds, random numbers ``(v, b, columns)`` and places."""

    size_px: int
    kinds: tuple[int, ...]
    draws: NDArray[np.float64]
    affines: NDArray[np.float64]


@torch.no_grad()
def make_views(
    images: Tensor, samples: NDArray[np.int64] | Tensor, config: ViewsConfig, *, seed: int
) -> tuple[ViewBatch, ...]:
    """Make the global views of a batch and, if the configuration has any, the local ones.

    Tiles are uint8 ``(b, 3, H, W)``. `samples`, ``(b,)``, are their positions in the run. Views are a
    function of (seed, sample) alone, except for the partner of a stain swap.
    """
    counters, tile_px = np.asarray(samples, dtype=np.int64), (images.shape[2], images.shape[3])
    pixels = images.float().div_(255)
    stains = stain.measure_stains(pixels) if config.p_stain_swap else None
    plans = _plan(counters, tile_px, config, seed)
    return tuple(ViewBatch(_images(pixels, plan, config, stains), plan.affines) for plan in plans)


def _plan(
    counters: NDArray[np.int64], tile_px: tuple[int, int], config: ViewsConfig, seed: int
) -> list[_Plan]:
    """Draw the global views and, if there are any, the local ones."""
    # The counters of the global views fill their stream, so local views have a stream of their own.
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


def _images(pixels: Tensor, plan: _Plan, config: ViewsConfig, stains: Tensor | None) -> Tensor:
    views = []
    for kind, draws, affines in zip(plan.kinds, plan.draws, plan.affines, strict=True):
        crops = geometry.sample_images(pixels, affines, plan.size_px)
        if config.stain_jitter or stains is not None:
            crops = stain.restain(crops, draws[:, _STAIN], config, stains)
        views.append(augment_colour(crops, draws[:, _COLOUR], config, kind))
    return torch.stack(views)
