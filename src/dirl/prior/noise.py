"""Damage to instance labels, to test how wrong nuclei may be; and the control ``moved``.

The functions take a map of labels (h, w); 0 is no nucleus. The caller passes a key, which is made from the
seed and the tile's id. The key determines all random numbers. So a tile is damaged in the same way in every
epoch.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.core.randomness import derangement, hashes, uniforms

Labels = NDArray[np.int32]
# Places that `move` tries for a nucleus.
TRIES = 80


def drop(labels: Labels, share: float, key: int) -> Labels:
    """Leave nuclei out, each with a probability of `share`.

    The sets are nested: a larger share leaves out the same nuclei, and more.
    """
    kept = uniforms(key, np.arange(int(labels.max(initial=0)) + 1), 1)[:, 0] >= share
    return labels * kept.take(labels)


def dilate(labels: Labels, px: float) -> Labels:
    """Grow every nucleus by `px` pixels, but not over pixels that are nearer to another nucleus."""
    grown = labels.copy()
    for rows, columns in _disk(px):
        source, target = _overlap(labels.shape, rows, columns)
        np.copyto(grown[target], labels[source], where=grown[target] == 0)
    return grown


def erode(labels: Labels, px: float) -> Labels:
    """Take from every nucleus the pixels within `px` of another label or of the background.

    Nuclei that touch are separated; small ones vanish. The border of the tile takes nothing away.
    """
    inside = labels > 0
    for rows, columns in _disk(px):
        source, target = _overlap(labels.shape, rows, columns)
        inside[target] &= labels[source] == labels[target]
    return labels * inside


def shift(labels: Labels, px: float, key: int) -> Labels:
    """Move the whole map by `px` pixels in a random direction, rounded to whole pixels along each axis.

    A bad registration does the same: nuclei keep their relative places. Nuclei that leave the tile are lost,
    and none come in.
    """
    angle = 2 * np.pi * float(uniforms(key, [0], 1)[0, 0])
    rows, columns = round(px * np.sin(angle)), round(px * np.cos(angle))
    moved = np.zeros_like(labels)
    source, target = _overlap(labels.shape, rows, columns)
    moved[target] = labels[source]
    return moved


def shuffled(seed: int, names: Sequence[str], groups: Sequence[str], share: float) -> NDArray[np.int64]:
    """Let a share of the tiles of each group, such as a slide, take the nuclei of another tile of the group.

    Return the index of the tile whose nuclei each tile takes, shape (tiles,). Each chosen tile gives its
    nuclei to another chosen tile, and takes those of another. Exception: if only one tile of a group is
    chosen, it keeps its own. The share is rounded to whole tiles of each group. At 1 this is
    `dirl.core.randomness.derangement`.
    """
    _, group, sizes = np.unique(np.asarray(groups, dtype=np.str_), return_inverse=True, return_counts=True)
    # Not the derangement's stream: neighbours in its cycle would be chosen together.
    order = np.lexsort((hashes(seed, [f"chosen {name}" for name in names]), group))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[group[order]]
    chosen = np.flatnonzero(rank < np.rint(share * sizes)[group])
    taken = np.arange(len(names))
    part = chosen.tolist()
    taken[chosen] = chosen[derangement(seed, [names[i] for i in part], [groups[i] for i in part])]
    return taken


def move(labels: Labels, tissue: NDArray[np.bool_], key: int) -> Labels:
    """Turn every nucleus by quarter turns, perhaps mirror it, and put it at a random place in the tissue.

    Each nucleus keeps its number, its area and its shape; other angles would change the area by rounding. The
    largest comes first. Each takes the first of `TRIES` places where it meets no other. If there is none, it
    is placed at the last one anyway, and overlapping pixels are lost.

    The nuclei are 1..m without gaps. The middle of a nucleus's box lies on the `tissue` (h, w) or in the old
    place of a nucleus. A box that would reach beyond the tile is moved inwards.
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


def _disk(radius_px: float) -> Iterator[tuple[int, int]]:
    """Steps from a pixel to those within a radius, the nearest first."""
    reach = int(radius_px)
    steps = [(r, c) for r in range(-reach, reach + 1) for c in range(-reach, reach + 1)]
    near = sorted((r * r + c * c, r, c) for r, c in steps if 0 < r * r + c * c <= radius_px**2)
    return ((r, c) for _, r, c in near)


def _overlap(shape: tuple[int, ...], rows: int, columns: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Slices of the overlap of an array and its copy, moved by `rows` and `columns`: (source, target)."""
    steps = list(zip(shape, (rows, columns), strict=True))
    source = tuple(slice(max(-step, 0), max(side - max(step, 0), 0)) for side, step in steps)
    target = tuple(slice(max(step, 0), max(side + min(step, 0), 0)) for side, step in steps)
    return source, target


def _turned(shape: NDArray[np.bool_], turn: int) -> NDArray[np.bool_]:
    """Return one of the eight quarter turns and mirror images."""
    shape = shape.T if turn & 1 else shape
    return shape[:: -1 if turn & 2 else 1, :: -1 if turn & 4 else 1]
