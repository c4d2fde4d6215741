"""Colour statistics and histograms of a tile: baselines that an encoder has to beat."""

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Vector = NDArray[np.float32]

LEVELS = 8


def colour_statistics(image: Image) -> Vector:
    """Mean and standard deviation of red, green and blue of an image (h, w, 3), float32 (6,) in 0..1."""
    channels = image.reshape(-1, 3).T
    # From the counts of each level: exact, and ten times as fast as over the pixels.
    shares = np.stack([np.bincount(channel, minlength=256) for channel in channels]) / channels.shape[1]
    levels = np.arange(256) / 255
    mean = shares @ levels
    variance = (shares * (levels - mean[:, None]) ** 2).sum(axis=1)
    return np.concatenate([mean, np.sqrt(variance)]).astype(np.float32)


def colour_histogram(image: Image) -> Vector:
    """Square roots of the shares of 8 × 8 × 8 colours of an image (h, w, 3), float32 (512,) of length 1.

    The cosine of two such vectors is the Bhattacharyya coefficient of the two distributions. On colorectal
    tiles it scored higher than histograms by channel, and than histograms with four levels.
    """
    levels = (image // (256 // LEVELS)).astype(np.int16)
    colours = (levels[..., 0] * LEVELS + levels[..., 1]) * LEVELS + levels[..., 2]
    counts = np.bincount(colours.ravel(), minlength=LEVELS**3)
    return np.sqrt(counts / colours.size).astype(np.float32)
