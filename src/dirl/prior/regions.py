"""Region ids of every pixel, drawn from nuclei and tissue.

In every set id 0 is glass, or no region. Nuclei outside the tissue mask count too.
"""

import math

import numpy as np
from numpy.typing import NDArray


def cell_region_ids(labels: NDArray[np.integer], tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Region of every pixel, in the set ``cells``.

    Parameters
    ----------
    labels
        Instance labels of nuclei (h, w), 0 where there is none.
    tissue
        Where there is tissue, bool (h, w).

    Returns
    -------
    ndarray of shape (h, w), uint8
        0 glass or no region, 1 nuclei, 2 the rest of the tissue.
    """
    return np.where(labels > 0, 1, np.where(tissue, 2, 0)).astype(np.uint8)


def class_ids(
    labels: NDArray[np.integer], tissue: NDArray[np.bool_], classes: NDArray[np.uint8], count: int
) -> NDArray[np.uint8]:
    """Region of every pixel, in the set ``classes``.

    Parameters
    ----------
    labels, tissue
        As in `cell_region_ids`.
    classes
        For each label from 0 the region of its class, 1 to `count`. A nucleus without a class has 0: it
        belongs to no region, not even to the rest.
    count
        Number of classes.

    Returns
    -------
    ndarray of shape (h, w), uint8
        0 no region, 1 to `count` the classes, ``count + 1`` the rest of the tissue.
    """
    return np.where((labels == 0) & tissue, np.uint8(count + 1), classes.take(labels))


def ring_ids(labels: NDArray[np.integer], tissue: NDArray[np.bool_], ring_px: float) -> NDArray[np.uint8]:
    """Region of every pixel, in the set ``tissue``.

    Parameters
    ----------
    labels, tissue
        As in `cell_region_ids`.
    ring_px
        Width of the ring. It is the tissue near a nucleus: cytoplasm, and stroma.

    Returns
    -------
    ndarray of shape (h, w), uint8
        0 glass, 1 nuclei, 2 the ring around them, 3 the rest of the tissue.
    """
    nuclei = labels > 0
    around = np.where(within(nuclei, ring_px), np.uint8(2), np.uint8(3))
    return np.where(nuclei, np.uint8(1), around * tissue)


def grid_ids(height_px: int, width_px: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Region of every pixel, in the set ``grid``: boxes of equal size, numbered from 1, row by row.

    Returns
    -------
    ndarray of shape (height_px, width_px), uint8
    """
    row = np.arange(height_px) * rows // height_px
    column = np.arange(width_px) * columns // width_px
    return (row[:, None] * columns + column + 1).astype(np.uint8)


def grid_shape(count: int) -> tuple[int, int]:
    """Rows and columns of `count` boxes, as near to a square as possible: 4 is 2 × 2, 3 is 1 × 3."""
    rows = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    return rows, count // rows


def within(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """Pixels whose Euclidean distance to `mask` is at most a radius.

    A disk is put together from rows of growing width. At the radii of a ring, 4 to 16 px, this is exact, and
    eight to twenty-five times faster than a distance transform.
    """
    reach = int(radius_px)
    row = mask.copy()
    rows = [row]
    for width in range(1, reach + 1):
        row = row.copy()
        row[:, width:] |= mask[:, :-width]
        row[:, :-width] |= mask[:, width:]
        rows.append(row)
    near = row.copy()
    for height in range(1, reach + 1):
        row = rows[int(math.sqrt(radius_px**2 - height**2))]
        near[height:] |= row[:-height]
        near[:-height] |= row[height:]
    return near
