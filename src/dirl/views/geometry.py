"""The place of a view in its tile, and the sampling of image and region ids there.

Coordinates are continuous pixels; (0, 0) is the outer corner of the first pixel. An affine of shape (2, 3)
maps a point of the view to a point of the tile.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import ViewsConfig

DRAWS = 7


def draw_affines(
    draws: NDArray[np.float64],
    tile_px: tuple[int, int],
    config: ViewsConfig,
    *,
    crop_area: tuple[float, float],
    size_px: int,
) -> NDArray[np.float64]:
    """Turn uniform numbers ``(b, DRAWS)`` into crops: place, area, aspect, flip, rotation and mpp.

    Under rotation by any angle the area is drawn from the part of its range that fits into the tile at that
    angle. If no part fits, the crop is the largest one that does. So no view shows anything outside the tile.

    `tile_px` is height and width of the tile, `crop_area` the range of the crop's share of it, and `size_px`
    the side of the view. The affines ``(b, 2, 3)`` map view pixels to tile pixels.
    """
    height, width = tile_px
    any_angle = config.rotation == "any"
    flip = np.where(draws[:, 4] < config.p_flip, -1.0, 1.0)
    if any_angle:
        cos, sin = np.cos(2 * np.pi * draws[:, 5]), np.sin(2 * np.pi * draws[:, 5])
    else:
        turn = np.floor(4 * draws[:, 5]) if config.rotation == "quarter" else np.zeros(len(draws))
        cos, sin = np.round(np.cos(turn * np.pi / 2)), np.round(np.sin(turn * np.pi / 2))
    turned = np.stack([np.stack([cos * flip, -sin], axis=1), np.stack([sin * flip, cos], axis=1)], axis=1)

    narrow, wide = np.log(config.crop_aspect)
    aspect = np.exp(narrow + (wide - narrow) * draws[:, 1])
    factor = (1 + config.mpp_jitter) ** (2 * draws[:, 6] - 1)
    limits = np.array(crop_area)[:, None]
    if any_angle:
        # Sides of a crop of area 1 and of the upright box around it once it is turned, across and down.
        sides = np.stack([np.sqrt(aspect), 1 / np.sqrt(aspect)], axis=1)
        around = (np.abs(turned) @ sides[:, :, None])[:, :, 0]
        most = (np.array([width, height]) / around).min(axis=1) ** 2
        limits = np.minimum(limits, most / (height * width))
    area = height * width * (limits[0] + (limits[1] - limits[0]) * draws[:, 0])
    if any_angle:
        side = np.sqrt(np.minimum(area * factor**2, most))[:, None]
        box = side * around
        linear = turned * (side * sides / size_px)[:, None, :]
    else:
        w = np.minimum(np.sqrt(area * aspect) * factor, width)
        h = np.minimum(np.sqrt(area / aspect) * factor, height)
        box = np.stack([w, h], axis=1)
        linear = (box / size_px)[:, :, None] * turned
    centre = box / 2 + draws[:, 2:4] * (np.array([width, height]) - box)
    offset = centre - linear.sum(axis=2) * size_px / 2
    return np.concatenate([linear, offset[:, :, None]], axis=2)


def sample_images(images: Tensor, affines: NDArray[np.float64], size_px: int) -> Tensor:
    """Resample images ``(b, 3, H, W)`` along affines ``(b, 2, 3)`` to views of `size_px`, without aliasing.

    A view that is smaller than its crop is sampled k times as densely and then averaged, since bilinear
    sampling alone would alias. k is its minification, rounded up.
    """
    height, width = images.shape[-2:]
    # One factor per sample, so that a view does not depend on its batch.
    factors = np.ceil(np.linalg.norm(affines[:, :, :2], axis=1).max(axis=1) - 1e-6).astype(int).clip(min=1)
    # grid_sample reads places in units of half the image, from its centre.
    scaled = (affines * np.array([2 / width, 2 / height])[:, None]).astype(np.float32)
    scaled[:, :, 2] -= 1
    theta = torch.from_numpy(scaled).to(images.device)
    views = images.new_empty(len(images), images.shape[1], size_px, size_px)
    for factor in np.unique(factors).tolist():
        rows = torch.from_numpy(np.flatnonzero(factors == factor)).to(images.device)
        step = (torch.arange(factor * size_px, device=images.device, dtype=torch.float32) + 0.5) / factor
        across, down, origin = theta[rows].unbind(dim=2)
        grid = (
            across[:, None, None] * step[:, None]
            + (down[:, None] * step[:, None] + origin[:, None])[:, :, None]
        )
        dense = F.grid_sample(images[rows], grid, mode="bilinear", padding_mode="border", align_corners=False)
        views[rows] = F.avg_pool2d(dense, factor) if factor > 1 else dense
    return views


def sample_regions(regions: Tensor, affines: Tensor, size_px: int) -> tuple[Tensor, Tensor]:
    """Take each region id of ``(b, H, W)`` from the tile pixel that contains the centre of the view's pixel.

    The ids, ``(b, size_px, size_px)``, are 0 outside the tile. The second result, of the same shape, tells
    whether the pixel lies inside. Affines ``(b, 2, 3)`` map view pixels to tile pixels, on the same device.
    """
    height, width = regions.shape[-2:]
    x, y = (torch.floor(places).long() for places in centres(affines, (size_px, size_px)))
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flat = y.clamp(0, height - 1) * width + x.clamp(0, width - 1)
    ids = regions.flatten(1).gather(1, flat.flatten(1)).view_as(flat)
    return torch.where(inside, ids, 0), inside


def centres(affines: Tensor, shape_px: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return where affines ``(b, 2, 3)`` map the centres of pixels: x and y, each ``(b, *shape_px)``."""
    down, across = (torch.arange(side, device=affines.device, dtype=affines.dtype) + 0.5 for side in shape_px)
    a = affines[:, :, :, None, None]
    x = a[:, 0, 0] * across + a[:, 0, 1] * down[:, None] + a[:, 0, 2]
    y = a[:, 1, 0] * across + a[:, 1, 1] * down[:, None] + a[:, 1, 2]
    return x, y


def invert(affines: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the inverse affines ``(..., 2, 3)``: tile pixels to view pixels."""
    linear = np.linalg.inv(affines[..., :2])
    return np.concatenate([linear, -linear @ affines[..., 2:]], axis=-1)


def view_mpp(affines: NDArray[np.float64], tile_mpp: float) -> NDArray[np.float64]:
    """Return each view's resolution in µm per view pixel, shape of the affines' lead."""
    scale: NDArray[np.float64] = np.sqrt(np.abs(np.linalg.det(affines[..., :2])))
    return tile_mpp * scale
