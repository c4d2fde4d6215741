"""Outlines of nuclei on an enlarged tile."""

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries


def enlarge_with_edges(
    image: NDArray[np.uint8], labels: NDArray[np.integer], times: int
) -> tuple[NDArray[np.uint8], NDArray[np.integer], NDArray[np.bool_]]:
    """Enlarge a tile (h, w, 3) and its labels (h, w) by repeating pixels, and find the labels' borders.

    The mask of the borders covers both sides of each, also between nuclei that touch. The enlarged image is
    a copy.
    """
    large = image.repeat(times, 0).repeat(times, 1)
    ids = labels.repeat(times, 0).repeat(times, 1)
    edges: NDArray[np.bool_] = find_boundaries(ids, mode="thick")  # type: ignore[no-untyped-call]
    return large, ids, edges
