"""From nuclei and tissue to the regions that a prior is made of."""

import numpy as np
from numpy.typing import NDArray

REGION_SETS = {"cells": ("nuclei", "rest")}
"""Names of the regions of each set, in the order of their ids from 1; id 0 is glass, or nothing."""


def region_ids(labels: NDArray[np.integer], tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Region of every pixel, in the set ``cells``.

    Parameters
    ----------
    labels
        Instance labels of nuclei (h, w), 0 where there is none.
    tissue
        Where there is tissue, bool (h, w). A nucleus is one wherever it lies.

    Returns
    -------
    ndarray of shape (h, w), uint8
        0 glass or nothing, 1 nuclei, 2 the rest of the tissue.
    """
    return np.where(labels > 0, 1, np.where(tissue, 2, 0)).astype(np.uint8)
