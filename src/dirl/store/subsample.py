"""Choices among tiles by seed and tile id alone: those that are never trained on, and a subsample."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError
from dirl.core.randomness import hashes
from dirl.store.dataset import TileStore


def held_out(tile_ids: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Tell which tiles (t,) are never trained on, a share of all."""
    # Compared as integers: 2**64 itself does not fit a uint64.
    return hashes(seed, tile_ids).astype(np.float64) < share * 2.0**64


def subsample_tiles(
    store: TileStore, count: int | None, seed: int, among: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Choose tiles of a store at random, from each slide in proportion to its number of tiles.

    The choice depends only on the seed and the tiles' ids. `among` are numbers of the tiles to choose from,
    ascending. None is all, and so is a `count` larger than there are. Returns their numbers (t,), ascending.
    """
    among = np.arange(len(store)) if among is None else among
    if count is None or count >= len(among):
        return among
    if count < 1:
        raise ConfigError(f"cannot embed {count} tiles", where="tiles", remedy="choose at least 1")
    keys = hashes(seed, store.tile_ids[among].tolist())
    slide = np.unique(store.slide_ids[among], return_inverse=True)[1]
    order = np.lexsort((keys, slide))
    sizes = np.bincount(slide)
    first = np.cumsum(sizes) - sizes
    # Relative position in the slide's shuffled list: the smallest values take a share of each slide.
    depth = np.empty(len(among))
    depth[order] = (np.arange(len(among)) - first[slide[order]] + 0.5) / sizes[slide[order]]
    return among[np.sort(np.lexsort((keys, depth))[:count])]
