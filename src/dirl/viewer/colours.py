"""Colour maps: the server colours attention, and the page colours measures."""

from functools import cache

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

NAMES = ("inferno", "viridis", "magma", "cividis", "turbo")


@cache
def palette(name: str) -> NDArray[np.uint8]:
    """Colours of a map from its lowest to its highest value, uint8 (256, 3)."""
    return np.asarray(colormaps[name](np.arange(256), bytes=True)[:, :3], np.uint8)


def to_hex(name: str) -> list[str]:
    """`palette` as hexadecimal colours for the page."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette(name).tolist()]


def colour(values: NDArray[np.float32], name: str, low: float, high: float) -> NDArray[np.uint8]:
    """Colour values between `low` and `high`.

    Parameters
    ----------
    values : ndarray of shape (h, w)
        NaN without a value.

    Returns
    -------
    ndarray of shape (h, w, 4), uint8
        Transparent without a value.
    """
    finite = np.isfinite(values)
    share = (np.where(finite, values, low) - low) / max(high - low, 1e-30)
    rgba = np.empty((*values.shape, 4), np.uint8)
    rgba[..., :3] = palette(name)[np.clip(np.rint(255 * share), 0, 255).astype(np.uint8)]
    rgba[..., 3] = np.where(finite, 255, 0)
    return rgba
