"""Windows to the mpp that a segmenter wants, and its labels back."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from dirl.cells.base import Image

# Within a tenth, nuclei are the size that they should be.
NEAR = 0.1


def to_mpp(rgb: Image, mpp: float, wanted_mpp: float) -> Image:
    """Resample a window to another mpp: shrunk by averaging, enlarged by cubic interpolation.

    Parameters
    ----------
    rgb
        Window (h, w, 3).
    mpp, wanted_mpp
        µm/px that it has, and that it shall have. Within a tenth it is returned as it is.
    """
    if abs(mpp / wanted_mpp - 1) <= NEAR:
        return rgb
    height, width = (max(1, round(side * mpp / wanted_mpp)) for side in rgb.shape[:2])
    how = Pillow.Resampling.BOX if mpp < wanted_mpp else Pillow.Resampling.BICUBIC
    return np.asarray(Pillow.fromarray(rgb).resize((width, height), how))


def to_shape(labels: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.int32]:
    """Resample labels to the shape (h, w) of a window that covers the same field, by nearest neighbour."""
    if labels.shape == shape:
        return labels
    rows, columns = (
        (2 * np.arange(side) + 1) * have // (2 * side) for side, have in zip(shape, labels.shape, strict=True)
    )
    return np.asarray(labels[rows[:, None], columns])
