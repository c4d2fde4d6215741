"""The colour part of a view: it changes the image, never the region ids."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import ViewsConfig

DRAWS = 9
_GRAY = (0.299, 0.587, 0.114)
# RGB to luma and two chroma axes, in which a turn of hue is a rotation.
_TO_YIQ = np.array([_GRAY, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)])


def augment_colour(images: Tensor, draws: NDArray[np.float64], config: ViewsConfig, kind: int = 0) -> Tensor:
    """Jitter colour, drop it, blur and solarise images ``(b, 3, h, w)`` in [0, 1], each by its own numbers.

    The uniform numbers have shape ``(b, DRAWS)``. `kind` chooses the probability if there is one for each
    kind of view.
    """
    matrix, contrast = _colour_matrices(draws, config)
    mean = images.mean(dim=(2, 3))
    transform = torch.from_numpy(matrix).to(images)
    scale = torch.from_numpy(contrast).to(images)[:, None]
    gray = ((transform @ mean[:, :, None]).squeeze(2) * images.new_tensor(_GRAY)).sum(dim=1, keepdim=True)
    offset = ((1 - scale) * gray)[:, :, None, None]
    jittered = torch.baddbmm(
        offset.flatten(2).expand(-1, 3, images.shape[2] * images.shape[3]),
        transform * scale[:, :, None],
        images.flatten(2),
    )
    out = jittered.view_as(images).clamp_(0, 1)

    blurred = np.flatnonzero(draws[:, 6] < _chance(config.p_blur, kind))
    if blurred.size:
        rows = torch.from_numpy(blurred).to(images.device)
        low, high = config.blur_sigma_px
        out[rows] = gaussian_blur(out[rows], low + (high - low) * draws[blurred, 7], high)
    solarised = np.flatnonzero(draws[:, 8] < _chance(config.p_solarise, kind))
    if solarised.size:
        rows = torch.from_numpy(solarised).to(images.device)
        out[rows] = torch.where(out[rows] < 0.5, out[rows], 1 - out[rows])
    return out


def gaussian_blur(images: Tensor, sigma_px: NDArray[np.float64], largest_px: float) -> Tensor:
    """Blur each image ``(b, 3, h, w)`` by its own standard deviation ``(b,)``, in pixels.

    `largest_px` is the largest deviation that may occur: it sets the kernel's size.
    """
    count, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest_px), height - 1, width - 1)
    distance = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (distance / sigma_px[:, None]) ** 2)
    weights = torch.from_numpy(kernel / kernel.sum(axis=1, keepdims=True)).to(images)
    weights = weights.repeat_interleave(channels, dim=0)
    flat = images.reshape(1, count * channels, height, width)
    flat = F.pad(flat, (radius, radius, radius, radius), mode="reflect")
    flat = F.conv2d(flat, weights[:, None, :, None], groups=count * channels)
    flat = F.conv2d(flat, weights[:, None, None, :], groups=count * channels)
    return flat.view(count, channels, height, width)


def _chance(value: float | tuple[float, ...], kind: int) -> float:
    return value[kind] if isinstance(value, tuple) else value


def _colour_matrices(
    draws: NDArray[np.float64], config: ViewsConfig
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return brightness, saturation, hue and grayscale as one matrix per sample, and the contrast factor."""
    jittered = draws[:, 0] < config.p_colour
    spread = 2 * draws[:, 1:5] - 1
    strengths = (config.brightness_jitter, config.contrast_jitter, config.saturation_jitter)
    brightness, contrast, saturation = (
        np.where(jittered, 1 + strength * spread[:, i], 1.0) for i, strength in enumerate(strengths)
    )
    angle = np.where(jittered, 2 * np.pi * config.hue_jitter * spread[:, 3], 0.0)
    saturation = np.where(draws[:, 5] < config.p_grayscale, 0.0, saturation)
    chroma = np.zeros((len(draws), 3, 3))
    chroma[:, 0, 0] = 1
    chroma[:, 1, 1] = chroma[:, 2, 2] = saturation * np.cos(angle)
    chroma[:, 2, 1] = saturation * np.sin(angle)
    chroma[:, 1, 2] = -chroma[:, 2, 1]
    matrix = brightness[:, None, None] * (np.linalg.inv(_TO_YIQ) @ chroma @ _TO_YIQ)
    return matrix, contrast
