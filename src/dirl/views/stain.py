"""Stain jitter and stain swap: changes of colour along the stains, as staining varies between slides."""

import numpy as np
import torch
from numpy.typing import NDArray
from skimage.color import rgb_from_hed
from torch import Tensor

from dirl.config import ViewsConfig

DRAWS = 8
# Half-width of the shift of a stain's amount, in units of optical density, for each unit of `stain_jitter`.
SHIFT = 0.1
# Above this a pixel is tissue. Below, the change fades out, so that glass stays glass.
TISSUE_DENSITY = 0.15
FEWEST_TISSUE = 0.05
MOST_STRETCH = 2.0


def _stains() -> NDArray[np.float64]:
    """Optical density of hematoxylin, of eosin, and of the residual, as unit rows."""
    h, e = np.asarray(rgb_from_hed)[:2]
    rows = np.stack([h, e, np.cross(h, e)])
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


STAINS = _stains()


def optical_density(images: Tensor) -> Tensor:
    """Return -log((255 I + 1) / 256) of images in [0, 1]."""
    return images.mul(255 / 256).add_(1 / 256).log_().neg_()


def measure_stains(images: Tensor) -> Tensor:
    """Measure the amount of each stain in the tissue of tiles, float ``(b, 3, h, w)`` in [0, 1].

    It returns ``(2, b, 3)``: mean and standard deviation of hematoxylin, eosin and the residual over the
    pixels of tissue. They are NaN for a tile that is nearly all glass.
    """
    density = optical_density(images).flatten(2)
    tissue = (density[:, 1:2] > TISSUE_DENSITY).to(density)
    count = tissue.sum(dim=2)
    amounts = _mix(images.new_tensor(np.linalg.inv(STAINS).T), density)
    mean = (amounts * tissue).sum(dim=2) / count
    sd = (((amounts - mean[:, :, None]) * tissue).square().sum(dim=2) / count).sqrt()
    found = torch.stack([mean, sd])
    return found.masked_fill(count < FEWEST_TISSUE * density.shape[2], torch.nan)


def restain(
    images: Tensor, draws: NDArray[np.float64], config: ViewsConfig, measured: Tensor | None
) -> Tensor:
    """Swap and jitter the stains of views ``(b, 3, h, w)`` in [0, 1], each by its own numbers ``(b, DRAWS)``.

    The optical density is split into hematoxylin, eosin and a residual (vectors of Ruifrok and Johnston, from
    scikit-image). The amount of each is multiplied and shifted, and the sum is turned back into colours.

    In a swap the amounts first get the mean and standard deviation of another tile's tissue. The other tile
    is drawn by this sample's own numbers among the tiles of the batch on this rank. No other quantity of a
    view depends on the batch, the rank, the accumulated part, or the place of the sample in it. A tile that
    is nearly all glass takes no part. Standard deviations are stretched at most twofold. `measured` are the
    `measure_stains` of the views' tiles; None if nothing is swapped.
    """
    spread = images.new_tensor(2 * draws[:, :6] - 1) * config.stain_jitter
    factor, shift = 1 + spread[:, :3], SHIFT * spread[:, 3:]
    if measured is not None:
        stretch, move = _swap(measured, draws[:, 6:])
        chosen = images.new_tensor(draws[:, 6:7]) < config.p_stain_swap
        chosen = chosen & (stretch + move).isfinite().all(dim=1, keepdim=True)
        shift = shift + factor * torch.where(chosen, move, 0)
        factor = factor * torch.where(chosen, stretch, 1)
    stains = images.new_tensor(STAINS)
    # The change of the optical density is linear in the amounts.
    back = images.new_tensor(np.linalg.inv(STAINS).T)
    density = optical_density(images)
    change = _mix(stains.T, shift[:, :, None] + (factor - 1)[:, :, None] * _mix(back, density.flatten(2)))
    change = change.view_as(density)
    change *= (density[:, 1:2] / TISSUE_DENSITY).clamp_(max=1)
    return density.add_(change).neg_().exp_().mul_(256 / 255).sub_(1 / 255).clamp_(0, 1)


def _swap(measured: Tensor, draws: NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    """Return the factor and the shift, each ``(b, 3)``, that make the amounts those of another tile."""
    count = measured.shape[1]
    own = np.arange(count)
    other = (own + 1 + np.floor(draws[:, 1] * (count - 1)).astype(np.int64)) % count
    mean, sd = measured
    partner = torch.from_numpy(other).to(mean.device)
    stretch = (sd[partner] / sd).clamp(1 / MOST_STRETCH, MOST_STRETCH)
    return stretch, mean[partner] - stretch * mean


def _mix(matrix: Tensor, channels: Tensor) -> Tensor:
    """Multiply the channels ``(b, 3, n)`` by a matrix in full precision: bfloat16 would show steps."""
    with torch.autocast(channels.device.type, enabled=False):
        return matrix @ channels
