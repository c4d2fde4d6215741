"""Morphology of masks and labels, several times faster than the general routines."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]
Map = NDArray[np.float32]


def odd(width_px: float) -> int:
    """Largest odd width up to `width_px + 1`, and at least 1."""
    return 2 * int(width_px / 2) + 1


def running(
    extreme: np.ufunc, values: NDArray[Any], width: int, axes: tuple[int, ...] = (0, 1)
) -> NDArray[Any]:
    """Largest or smallest value (h, w) in a square of odd width; a single axis gives a line.

    `extreme` is ``np.maximum`` or ``np.minimum``. Small widths are several times faster than with ndimage.
    """
    for axis in axes:
        before = values
        values = values.copy()
        for k in range(1, min(width // 2, values.shape[axis] - 1) + 1):
            ahead, behind = (slice(k, None), slice(None, -k))
            if axis == 1:
                extreme(values[:, ahead], before[:, behind], out=values[:, ahead])
                extreme(values[:, behind], before[:, ahead], out=values[:, behind])
            else:
                extreme(values[ahead], before[behind], out=values[ahead])
                extreme(values[behind], before[ahead], out=values[behind])
    return values


def closing(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Close gaps that are narrower than a square."""
    return running(np.minimum, running(np.maximum, values, width), width)


def opening(values: NDArray[Any], width: int) -> NDArray[Any]:
    """Remove threads that are narrower than a square."""
    return running(np.maximum, running(np.minimum, values, width), width)


def connected(values: NDArray[Any], connectivity: int) -> Labels:
    """Number the connected parts of equal values (h, w), from 1; 0 is background.

    Connectivity 1 connects pixels by sides, 2 also by corners.
    """
    return np.asarray(label(values, background=0, connectivity=connectivity), np.int32)  # type: ignore[no-untyped-call]


def smaller(mask: Mask, area_px: float) -> Mask:
    """Return the connected parts of `mask` that are smaller than an area."""
    parts = connected(mask, 1)
    small = np.bincount(parts.ravel()) < area_px
    small[0] = False
    return np.asarray(small.take(parts))


def depth(mask: Mask, bound_px: int) -> Map:
    """Distance to the mask's border in pixels, up to a bound.

    It counts erosions by a cross and a square in turn, so its balls are octagons. Nuclei are separated as
    well as with the Euclidean distance, in a fifth of the time.
    """
    distance = mask.astype(np.float32)
    for step in range(1, bound_px):
        rows = running(np.minimum, mask, 3, axes=(0,))
        if step % 2:
            mask = rows & running(np.minimum, mask, 3, axes=(1,))
        else:
            mask = running(np.minimum, rows, 3, axes=(1,))
        distance += mask
    return distance


def grown(labels: Labels, reach_px: int) -> Labels:
    """Let every label grow into background pixels within a reach; where two meet, the larger id wins."""
    for _ in range(reach_px):
        labels = np.where(labels == 0, running(np.maximum, labels, 3), labels)
    return labels


def largest_parts(labels: Labels) -> Labels:
    """Keep the largest connected part of every label."""
    parts = connected(labels, 2)
    sizes = np.bincount(parts.ravel())
    owner = np.zeros(len(sizes), np.int32)
    owner[parts] = labels
    # The last part of each owner wins below. Sorted by size, it is the largest part.
    order = np.argsort(sizes[1:], kind="stable") + 1
    best = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    best[owner[order]] = order
    return np.where(parts == best.take(labels), labels, 0)
