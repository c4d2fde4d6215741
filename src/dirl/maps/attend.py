"""The attention of every tile of a map. It is kept on disk, so that interrupted work can continue."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import MapConfig
from dirl.core.errors import EncoderError
from dirl.core.files import read_json, write_json
from dirl.core.parallel import read_ahead
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.maps.blend import array_on_disk
from dirl.maps.grid import MapGrid, MapTiles
from dirl.maps.scaling import within_tile
from dirl.slides.base import Slide
from dirl.slides.reading import read_box

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class TileReader:
    """Reads a map's tiles from the slide."""

    slide: Slide
    grid: MapGrid
    tiles: MapTiles
    config: MapConfig

    def __call__(self, index: int) -> NDArray[np.uint8]:
        """Pixels of a tile, (tile_px, tile_px, 3)."""
        token = self.grid.token_level0_px
        x, y = (
            float(at[index]) * token + start
            for at, start in zip((self.tiles.columns, self.tiles.rows), self.grid.origin_px, strict=True)
        )
        side, upsample = self.grid.tile_px, self.config.allow_upsample
        return read_box(self.slide, x, y, side, side, self.config.mpp, allow_upsample=upsample)


def attend(
    folder: Path,
    encoder: LoadedEncoder,
    reader: TileReader,
    tissue: NDArray[np.bool_],
    block: int,
    channels: int,
    *,
    batch: int,
    workers: int,
    advance: Callable[..., None],
) -> tuple[Floats, Floats]:
    """Compute the attention of every tile. It continues earlier work in the folder.

    Each tile has its own place in the file. The number of finished tiles is written after each batch, so that
    an interrupted batch is computed again.

    Parameters
    ----------
    folder
        Holds the arrays.
    tissue : ndarray of the map's shape, bool
        Tokens on tissue.
    block
        Number of the block, from 0.
    channels
        1 for the mean of heads, or 1 + number of heads.
    batch, workers
        Tiles in a forward pass, and threads that read tiles.

    Returns
    -------
    values : ndarray of shape (t, c, g, g), float32
        Scaled within the tile.
    mass : ndarray of shape (t, c), float32
        Sum of the attention on all patch tokens of the tile.

    Raises
    ------
    EncoderError
        If the attention is not finite.
    """
    count, side = len(reader.tiles), reader.grid.tile_tokens
    done_file = folder / "done.json"
    done = read_json(done_file)["tiles"] if done_file.exists() else 0
    shapes = {"values": (count, channels, side, side), "mass": (count, channels)}
    values, mass = (
        open_memmap(folder / f"{name}.npy", "r+") if done else array_on_disk(folder / f"{name}.npy", shape)
        for name, shape in shapes.items()
    )
    advance(done)
    for part, images in _batches(reader, done, batch, workers):
        rows = attention_rows(encoder.model, preprocess(encoder, images)).patches[:, block]
        averaged = rows.mean(1, keepdim=True)
        rows = averaged if channels == 1 else torch.cat([averaged, rows], 1)
        if not rows.isfinite().all():
            reason = "gives attention that is not finite"
            raise EncoderError(reason, where=encoder.name, remedy="its weights are damaged")
        here = [
            tissue[i : i + side, j : j + side]
            for i, j in zip(reader.tiles.rows[part], reader.tiles.columns[part], strict=True)
        ]
        values[part] = within_tile(rows, torch.from_numpy(np.stack(here)), reader.config.within).numpy()
        mass[part] = rows.sum((-2, -1)).cpu().numpy()
        values.flush()
        mass.flush()
        write_json(done_file, {"tiles": part.stop})
        advance(len(images))
    return values, mass


def _batches(reader: TileReader, first: int, batch: int, workers: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield tiles in batches, and read the next batch meanwhile."""
    with closing(read_ahead(reader, range(first, len(reader.tiles)), workers, batch)) as reads:
        while part := list(islice(reads, batch)):
            tiles = []
            for _, tile in part:
                if isinstance(tile, Exception):
                    raise tile
                tiles.append(tile)
            yield slice(part[0][0], part[-1][0] + 1), as_images(tiles)


def as_images(tiles: list[NDArray[np.uint8]]) -> Tensor:
    """Stack tiles, each (h, w, 3), to a batch of shape (b, 3, h, w)."""
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2)
