"""Blend overlapping tiles to one map and its pyramid, in arrays on disk that may exceed the memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from dirl.core.full_disk import writing
from dirl.maps.grid import BAND, MapGrid, MapTiles

Floats = NDArray[np.float32]


def array_on_disk(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Make a float32 array of zeros in a ``.npy`` file, and reserve its space on disk.

    Raises
    ------
    NoRoomError
        If the disk has no room for it. Without the check the system would kill the program when it writes.
    """
    with writing(path):
        try:
            array = open_memmap(path, "w+", np.float32, shape)
            if hasattr(os, "posix_fallocate"):  # not on every system
                with path.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return array


def window(tokens: int) -> Floats:
    """Weights of a tile's tokens in the blend, (tokens, tokens): sin² along both sides, all above 0.

    Windows half a tile apart sum to 1 if the number of tokens is even. `blend` always divides by the sum.
    """
    line = np.sin(np.pi * (np.arange(tokens) + 0.5) / tokens) ** 2
    return np.outer(line, line).astype(np.float32)


def blend(
    path: Path,
    values: Floats,
    weights: NDArray[np.floating],
    tiles: MapTiles,
    grid: MapGrid,
    tissue: NDArray[np.bool_],
) -> Floats:
    """Average overlapping tiles: ``m(u) = Σ_t h_t(u) w_t f_t(u) / Σ_t h_t(u)``, h being the window.

    Parameters
    ----------
    path
        File of the map.
    values : ndarray of shape (t, c, g, g)
        f, by tile and channel.
    weights : ndarray of shape (t, c)
        w, by tile and channel.
    tissue : ndarray of the map's shape, bool
        Tokens on tissue.

    Returns
    -------
    ndarray of shape (c, rows, columns), float32
        Mapped from `path`; NaN where there is no tissue or no tile.
    """
    channels, side = values.shape[1], grid.tile_tokens
    out = array_on_disk(path, (channels, *grid.shape))
    total = np.zeros(grid.shape, np.float32)
    feather = window(side)
    for tile, (row, column) in enumerate(zip(tiles.rows, tiles.columns, strict=True)):
        here = np.s_[row : row + side, column : column + side]
        total[here] += feather
        out[(..., *here)] += feather * values[tile] * weights[tile, :, None, None]
    for top in range(0, grid.shape[0], BAND):
        band = np.s_[top : top + BAND]
        mapped = tissue[band] & (total[band] > 0)
        np.divide(out[:, band], total[band], out=out[:, band], where=mapped)
        out[:, band][:, ~mapped] = np.nan
    return out


def halve(path: Path, level: Floats, shape: tuple[int, int]) -> Floats:
    """Make the next level of a pyramid, float32 (c, *shape): means of two by two pixels that are not NaN.

    `level` has shape (c, rows, columns). `shape` is half of its rows and columns, rounded up. A pixel is NaN
    if all four are.
    """
    out = array_on_disk(path, (len(level), *shape))
    for top in range(0, shape[0], BAND):
        band = level[:, 2 * top : 2 * (top + BAND)]
        odd = [(0, 0), *((0, side % 2) for side in band.shape[1:])]
        fours = np.pad(band, odd, constant_values=np.nan)
        fours = fours.reshape(len(level), fours.shape[1] // 2, 2, fours.shape[2] // 2, 2)
        there = np.isfinite(fours)
        count = there.sum((2, 4))
        total = np.where(there, fours, 0).sum((2, 4))
        means = np.full(count.shape, np.nan, np.float32)
        np.divide(total, count, out=means, where=count > 0)
        out[:, top : top + BAND] = means
    return out
