"""The control ``moved``: a tile's own nuclei, in wrong places."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.core.randomness import uniforms

TRIES = 80


def move(labels: NDArray[np.int32], tissue: NDArray[np.bool_], key: int) -> NDArray[np.int32]:
    """Turn every nucleus by quarter turns, perhaps mirror it, and put it at a random place in the tissue.

    Each nucleus keeps its number, its area and its shape; other angles would change the area by rounding. The
    largest comes first. Each takes the first of `TRIES` places where it meets no other. If there is none, it
    is placed at the last one anyway, and overlapping pixels are lost.

    Parameters
    ----------
    labels
        Instance labels (h, w), 0 where there is no nucleus, the nuclei 1..m without gaps.
    tissue
        Where the middle of a nucleus's box may lie, bool (h, w). The old places of nuclei are allowed too. A
        box that would reach beyond the tile is moved inwards.
    key
        Key of the random numbers.

    Returns
    -------
    ndarray of shape (h, w), int32
    """
    moved = np.zeros_like(labels)
    areas = np.bincount(labels.ravel())[1:]
    boxes = ndimage.find_objects(labels)
    draws = uniforms(key, np.arange(len(areas)), 1 + TRIES)
    turns = (8 * draws[:, 0]).astype(np.int64).tolist()
    shapes = [_turned(labels[box] == i + 1, turns[i]) for i, box in enumerate(boxes)]
    sides = np.array([shape.shape for shape in shapes], np.int64).reshape(-1, 2, 1)
    places = np.stack(np.nonzero(tissue | (labels > 0)))
    middles = places[:, (draws[:, 1:] * places.shape[1]).astype(np.int64)].swapaxes(0, 1)
    corners = np.clip(middles - sides // 2, 0, np.array(labels.shape)[:, None] - sides).tolist()
    for i in np.argsort(-areas, kind="stable").tolist():
        shape = shapes[i]
        height, width = shape.shape
        for top, left in zip(*corners[i], strict=True):
            window = moved[top : top + height, left : left + width]
            if not window[shape].any():
                break
        window[shape & (window == 0)] = i + 1
    return moved


def _turned(shape: NDArray[np.bool_], turn: int) -> NDArray[np.bool_]:
    """Return one of the eight quarter turns and mirror images."""
    shape = shape.T if turn & 1 else shape
    return shape[:: -1 if turn & 2 else 1, :: -1 if turn & 4 else 1]
