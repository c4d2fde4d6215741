"""Groups of ready-made tiles with the same stain, since no file states their slides."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from dirl.cells.base import Image

TILES_PER_GROUP = 40
MOST_GROUPS = 24
EVERY_PX = 3


def stain_groups(images: Iterable[Image]) -> NDArray[np.int64]:
    """Group tiles by the optical density of their light and their dark tissue in red and green.

    The light tissue shows the stain of the background, the dark tissue that of nuclei. Both hardly depend on
    the number of nuclei. So the tiles of a group can share a threshold, as the windows of a slide do.

    Tiles (h, w, 3) are read one at a time. Return the group of each, shape (tiles,), from 0 without gaps.
    There is about one group for 40 tiles, and at most 24.
    """
    levels = np.array([_levels(rgb) for rgb in images])
    count = min(len(levels) // TILES_PER_GROUP, MOST_GROUPS, len(np.unique(levels, axis=0)))
    if count <= 1:
        return np.zeros(len(levels), np.int64)
    found = KMeans(count, n_init=1, random_state=0).fit_predict(levels)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _levels(rgb: Image) -> NDArray[np.float64]:
    """Optical density of red and green in light and in dark tissue, shape (4,); 0 without tissue."""
    density = -np.log((rgb[::EVERY_PX, ::EVERY_PX, :2].reshape(-1, 2) + 1.0) / 256)
    tissue = density[density[:, 1] > 0.15]
    if not len(tissue):
        return np.zeros(4)
    return np.percentile(tissue, (20, 90), axis=0).ravel()
