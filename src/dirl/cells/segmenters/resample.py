"""Resampling of windows to a segmenter's mpp, and of its labels back."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from dirl.cells.base import Image

# A tenth more or less makes no difference for the size of nuclei.
NEAR = 0.1


def to_mpp(rgb: Image, mpp: float, wanted_mpp: float) -> Image:
    """Resample a window (h, w, 3) to another mpp: shrink by averaging, enlarge by cubic interpolation.

    If the two differ by at most a tenth, the window is returned.
    """
    if abs(mpp / wanted_mpp - 1) <= NEAR:
        return rgb
    height, width = (max(1, round(side * mpp / wanted_mpp)) for side in rgb.shape[:2])
    how = Pillow.Resampling.BOX if mpp < wanted_mpp else Pillow.Resampling.BICUBIC
    return np.asarray(Pillow.fromarray(rgb).resize((width, height), how))


def to_shape(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Resample labels to the shape (h, w) of a window of the same field, by nearest neighbour."""
    if labels.shape == shape:
        return labels
    rows, columns = (
        (2 * np.arange(side) + 1) * have // (2 * side) for side, have in zip(shape, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])
