"""HoVer-Net's separation of nuclei, independent of the other content of a window."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from dirl.cells.segmenters.morphology import Labels, Map, Mask, connected, odd, opening

# Standard deviation of the Gaussian whose derivative measures a jump.
SLOPE_UM = 0.5
# Least jump of a border. Between two nuclei the jump is 1, at the end of a nucleus 0.5.
JUMP = 0.1
# Width of the threads between markers that are removed.
THREAD_UM = 1.5


def separate_by_jumps(inside: Mask, distances: Map, mpp: float) -> Labels:
    """Separate nuclei where the distance from the centre falls from +1 at the end of one to -1 at the next.

    Differs from the paper, and from cellseg-models-pytorch. These scale the maps and their slopes to 0..1
    over the window. So one outlier decides how all nuclei of the window are separated, or whether they are
    found. Here a jump has a fixed scale, and the width of the filter follows the mpp.

    `inside` are the pixels (h, w) of nuclei. `distances` (2, h, w) are the vertical and horizontal distance
    from the centre of a pixel's nucleus, -1 to 1.

    References
    ----------
    Graham et al. (2019), HoVer-Net. Medical Image Analysis 58, section 3.2.
    """
    jump = np.maximum(*(_fall(distances[axis], axis, SLOPE_UM / mpp) for axis in (0, 1)))
    markers = ndimage.binary_fill_holes(inside & (jump < JUMP))
    seeds = connected(opening(markers, odd(THREAD_UM / mpp)), 1)
    return np.asarray(watershed(jump, seeds, mask=inside), np.int32)  # type: ignore[no-untyped-call]


def _fall(distance: Map, axis: int, deviation_px: float) -> NDArray[np.float32]:
    """Fall of a map (h, w) along an axis, relative to the steepest one: from 1 to -1 within a pixel."""
    order = (1, 0) if axis == 0 else (0, 1)
    slope = ndimage.gaussian_filter(distance.clip(-1, 1), deviation_px, order)
    return np.asarray(-slope * np.float32(deviation_px * np.sqrt(np.pi / 2)))
