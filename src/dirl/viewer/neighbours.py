"""Nearest neighbours of a tile, by features in the field's layout."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.core.checked import checked
from dirl.core.errors import StoreError
from dirl.core.layout import CARD
from dirl.features.feature_files import ROWS_DIR
from dirl.features.hdf5 import names_in, numbers, open_hdf5, strings
from dirl.features.knn import unit_rows
from dirl.store.dataset import TileStore

NEIGHBOURS = 8
Key = str | tuple[str, int, int]
REMEDY = "give a file or a directory that `dirl embed` made from this store"


@dataclass(frozen=True)
class Neighbours:
    """The tiles of a store that have features: their numbers (f,), and features of length 1, (f, d)."""

    rows: NDArray[np.int64]
    directions: NDArray[np.float32]

    def nearest(self, i: int, count: int = NEIGHBOURS) -> list[tuple[int, float]]:
        """Number and cosine of the nearest tiles of tile `i`, nearest first; empty if it has no features."""
        own = np.flatnonzero(self.rows == i)
        if not len(own):
            return []
        cosines = self.directions @ self.directions[own[0]]
        cosines[own] = -np.inf
        count = min(count, len(cosines) - len(own))
        best = np.argpartition(-cosines, count)[:count]
        best = best[np.argsort(-cosines[best], kind="stable")]
        return [(int(self.rows[k]), float(cosines[k])) for k in best]


def read_neighbours(path: Path, store: TileStore) -> Neighbours:
    """Read features of a store's tiles; without any it raises a `StoreError`.

    `path` is a directory of `dirl embed`, or an HDF5 file with ``features`` and ``coords``. The file has its
    slide's name, like those of `dirl embed`, CLAM and TRIDENT.
    """
    files = sorted((path / ROWS_DIR).glob("*.h5")) if path.is_dir() else [path]
    if not files:
        raise StoreError("contains no features", where=path, remedy=REMEDY)
    ids, *place = (store.index[name].to_pylist() for name in ("tile_id", "slide_id", "x", "y"))
    numbers: dict[Key, int] = {key: i for i, key in enumerate(zip(*place, strict=True))}
    numbers |= {key: i for i, key in enumerate(ids)}
    rows, parts = [], []
    for file in files:
        if (path / CARD).exists():
            checked(path, f"{ROWS_DIR}/{file.name}")
        features, keys = _read(file)
        matched = np.array([numbers.get(key, -1) for key in keys], np.int64)
        rows.append(matched[matched >= 0])
        parts.append(features[matched >= 0])
    if len({part.shape[1] for part in parts}) != 1 or not sum(map(len, rows)):
        raise StoreError(f"no features of the tiles of {store.path}", where=path, remedy=REMEDY)
    return Neighbours(np.concatenate(rows), unit_rows(np.concatenate(parts)))


def _read(file: Path) -> tuple[NDArray[np.float32], list[Key]]:
    """Features, and for each row the tile's id, or its slide and place if the file has no ids."""
    with open_hdf5(file, REMEDY, "cannot be read") as held:
        features = numbers(held, "features").astype(np.float32)
        if features.ndim == 3 and len(features) == 1:
            features = features[0]
        if features.ndim != 2 or not np.isfinite(features).all():
            raise ValueError(f"features of shape {features.shape}, or not finite")
        keys: list[Key]
        if "tile_id" in names_in(held):
            keys = [*strings(held, "tile_id").tolist()]
        else:
            coords = numbers(held, "coords").reshape(-1, 2)
            keys = [(file.stem, int(x), int(y)) for x, y in coords.tolist()]
        if len(keys) != len(features):
            raise ValueError(f"{len(features)} features of {len(keys)} tiles")
        return features, keys
