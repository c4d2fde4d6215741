"""Damage to instance labels, to learn how much damage to the prior the effect survives.

Pure functions of labels (h, w), 0 where there is no nucleus. The caller makes a key of the seed and
the tile's id, and random numbers come from it. So a tile is damaged in the same way in every epoch.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dirl.core.randomness import derangement, hashes, uniforms

Labels = NDArray[np.int32]


def drop(labels: Labels, share: float, key: int) -> Labels:
    """Leave nuclei out, each with a probability of `share`.

    Nuclei that are left out at one share are left out at every larger share.
    """
    kept = uniforms(key, np.arange(int(labels.max(initial=0)) + 1), 1)[:, 0] >= share
    return labels * kept.take(labels)


def dilate(labels: Labels, px: float) -> Labels:
    """Grow every nucleus by `px` pixels, but not over pixels that are nearer to another nucleus."""
    grown = labels.copy()
    for rows, columns in _disk(px):
        there, here = _overlap(labels.shape, rows, columns)
        np.copyto(grown[here], labels[there], where=grown[here] == 0)
    return grown


def erode(labels: Labels, px: float) -> Labels:
    """Take from every nucleus the pixels within `px` of another label or of the background.

    Nuclei that touch are separated; small ones vanish. The border of the tile takes nothing away.
    """
    inside = labels > 0
    for rows, columns in _disk(px):
        there, here = _overlap(labels.shape, rows, columns)
        inside[here] &= labels[there] == labels[here]
    return labels * inside


def shift(labels: Labels, px: float, key: int) -> Labels:
    """Move the whole map by `px` pixels in a random direction, rounded to whole pixels along each axis.

    A bad registration does the same: nuclei keep their relative places. Nuclei that leave the tile are lost,
    and none come in.
    """
    angle = 2 * np.pi * float(uniforms(key, [0], 1)[0, 0])
    rows, columns = round(px * np.sin(angle)), round(px * np.cos(angle))
    moved = np.zeros_like(labels)
    there, here = _overlap(labels.shape, rows, columns)
    moved[here] = labels[there]
    return moved


def shuffled(seed: int, names: Sequence[str], groups: Sequence[str], share: float) -> NDArray[np.int64]:
    """Let a share of the tiles of each group take the nuclei of another tile of the group.

    Parameters
    ----------
    seed
        Key of the choice.
    names
        A unique name for each tile.
    groups
        The group of each, for example its slide.
    share
        Share of each group's tiles, rounded to whole tiles. A tile that is chosen alone keeps its own nuclei.
        At 1 this is `dirl.core.randomness.derangement`.

    Returns
    -------
    ndarray of shape (tiles,)
        Index of the tile whose nuclei each tile takes. Each chosen tile gives its nuclei once, and none
        keeps its own.
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


def _disk(radius_px: float) -> Iterator[tuple[int, int]]:
    """Steps from a pixel to those within a radius, the nearest first."""
    reach = int(radius_px)
    steps = [(r, c) for r in range(-reach, reach + 1) for c in range(-reach, reach + 1)]
    near = sorted((r * r + c * c, r, c) for r, c in steps if 0 < r * r + c * c <= radius_px**2)
    return ((r, c) for _, r, c in near)


def _overlap(shape: tuple[int, ...], rows: int, columns: int) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where an array and its copy, moved by `rows` and `columns`, overlap: in the copy, and in the array."""
    steps = list(zip(shape, (rows, columns), strict=True))
    there = tuple(slice(max(-step, 0), max(side - max(step, 0), 0)) for side, step in steps)
    here = tuple(slice(max(step, 0), max(side + min(step, 0), 0)) for side, step in steps)
    return there, here
