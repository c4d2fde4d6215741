"""Which ready-made tiles are stained alike: they come from many slides, and no file says which from which."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from dirl.cells.base import Image

TILES_PER_GROUP = 40
MOST_GROUPS = 24
EVERY_PX = 3


def stain_groups(images: Iterable[Image]) -> NDArray[np.int64]:
    """Group tiles by how light and how dark their tissue is in red and green.

    What is light is the background's stain and what is dark the nuclei's, nearly whatever the number of
    nuclei. So a group shares a threshold as the windows of a slide do.

    Parameters
    ----------
    images
        Tiles (h, w, 3), uint8, taken one by one.

    Returns
    -------
    ndarray of shape (tiles,)
        Number of each tile's group, from 0 without gaps: about one group to 40 tiles, at most 24.
    """
    levels = np.array([_levels(rgb) for rgb in images])
    count = min(len(levels) // TILES_PER_GROUP, MOST_GROUPS, len(np.unique(levels, axis=0)))
    if count <= 1:
        return np.zeros(len(levels), np.int64)
    found = KMeans(count, n_init=1, random_state=0).fit_predict(levels)
    return np.unique(found, return_inverse=True)[1].astype(np.int64)


def _levels(rgb: Image) -> NDArray[np.float64]:
    """Optical density of red and green, at the light and the dark end of the tissue; 0 without tissue."""
    density = -np.log((rgb[::EVERY_PX, ::EVERY_PX, :2].reshape(-1, 2) + 1.0) / 256)
    tissue = density[density[:, 1] > 0.15]
    if not len(tissue):
        return np.zeros(4)
    return np.percentile(tissue, (20, 90), axis=0).ravel()
