"""Reading attention maps of `dirl map`: the summary, and boxes of the float TIFF."""

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from dirl.core.boundary import parsing
from dirl.core.card import read_card
from dirl.core.checked import checked, read_checked
from dirl.core.errors import StoreError
from dirl.core.results import read_as
from dirl.maps.summary import MapChannel, MapSummary
from dirl.viewer.overlays import colour
from dirl.viewer.pictures import TILE_PX, top_level

REMEDY = "make it again with `dirl map --overwrite`"
CACHED_TILES = 256
MOST_SIDE = 1024  # largest side of a tile in the file, in pixels
Floats = NDArray[np.float32]


class SlideMap:
    """An attention map of a slide. Each pixel is a patch token.

    A directory that is not a finished, undamaged map raises a `StoreError`.

    Attributes
    ----------
    name
        Encoder and block.
    slide_size_px, size_px
        Size of the slide at level 0, and of the map in tokens.
    offset_px
        Place of the map's corner on the slide, x and y in level-0 pixels.
    token_px
        Side of a token in level-0 pixels.
    facts
        Its settings, for the reader.
    regions
        Its top regions. Each is a list of rings of x and y in level-0 pixels: the outline, then holes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        card = read_card(path, "map")
        if card.finished is None:
            raise StoreError("unfinished", where=path, remedy="run the same `dirl map` again")
        with parsing(path, remedy=REMEDY):
            summary = read_as(path, MapSummary).summary
            raster = summary.map
            self.encoder, self.block = summary.encoder.name, summary.block
            self.name = f"{self.encoder}, block {self.block}"
            self.slide_id, self.slide_size_px = summary.slide.slide_id, summary.slide.size_px
            self.size_px, self.token_px, self.offset_px = raster.size_px, raster.level0_px, raster.offset_px
            self.channels = summary.channels
            _check_ranges(self.channels)
            self.unit = summary.unit
            self.facts = {
                "encoder": summary.encoder.spec,
                "query": summary.encoder.query,
                "within tiles": summary.within,
                "between tiles": summary.between,
                "token": f"{raster.mpp:g} µm",
            }
            # Only a name, so that a damaged summary never leads out of its directory.
            self._file = checked(path, Path(summary.files.float).name, card)
            self.regions = _rings(read_checked(path, Path(summary.files.regions).name), self.offset_px)
        self._tiff, self._levels = _open(self._file, len(self.channels), self.size_px)
        self._lock = Lock()
        self._tile = lru_cache(CACHED_TILES)(self._decode)

    @property
    def levels(self) -> int:
        """Number of levels, each half as large as the one before."""
        return len(self._levels)

    def read(self, channel: int, x: int, y: int, w: int, h: int, level: int = 0) -> Floats:
        """Read a box of a level, float32 (h, w), NaN outside the mapped tissue. The box is in its pixels."""
        box = np.full((h, w), np.nan, np.float32)
        page = self._levels[level][channel]
        high, wide = page.tilelength, page.tilewidth
        across, down = math.ceil(page.imagewidth / wide), math.ceil(page.imagelength / high)
        for row in range(max(0, y // high), min(down, math.ceil((y + h) / high))):
            for column in range(max(0, x // wide), min(across, math.ceil((x + w) / wide))):
                tile = self._tile(level, channel, row * across + column)
                top, left = row * high, column * wide
                y0, y1 = max(y, top), min(y + h, top + tile.shape[0])
                x0, x1 = max(x, left), min(x + w, left + tile.shape[1])
                if y0 < y1 and x0 < x1:
                    box[y0 - y : y1 - y, x0 - x : x1 - x] = tile[y0 - top : y1 - top, x0 - left : x1 - left]
        return box

    def deep_zoom_tile(
        self, channel: int, level: int, column: int, row: int, colours: str, span: tuple[float, float]
    ) -> NDArray[np.uint8] | None:
        """Colour one Deep Zoom tile, uint8 (h, w, 4), as in `dirl.viewer.pictures.deep_zoom_tile`."""
        reduced = top_level(self.size_px) - level
        if not (0 <= channel < len(self.channels) and 0 <= reduced < self.levels):
            return None
        width, height = (math.ceil(side / 2**reduced) for side in self.size_px)
        x, y = column * TILE_PX, row * TILE_PX
        if not (0 <= x < width and 0 <= y < height):
            return None
        values = self.read(channel, x, y, min(TILE_PX, width - x), min(TILE_PX, height - y), reduced)
        return colour(values, colours, *span)

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()

    def _decode(self, level: int, channel: int, index: int) -> Floats:
        page = self._levels[level][channel]
        with parsing(self._file, remedy=REMEDY):
            with self._lock:
                self._tiff.filehandle.seek(page.dataoffsets[index])
                data = self._tiff.filehandle.read(page.databytecounts[index])
            segment, _, shape = page.decode(data, index)
            return np.asarray(segment[0, : shape[1], : shape[2], 0], np.float32)


def _open(path: Path, channels: int, size_px: tuple[int, int]) -> tuple[tifffile.TiffFile, list[list[Any]]]:
    """Open a pyramid: the file, and its pages by level and channel."""
    with ExitStack() as stack:
        with parsing(path, remedy=REMEDY, what="cannot be read"):
            if not path.is_file():
                raise StoreError("missing", where=path, remedy=REMEDY)
            tiff = stack.enter_context(tifffile.TiffFile(path))
            levels: list[list[Any]] = [
                [page.aspage() for page in level.pages if page is not None] for level in tiff.series[0].levels
            ]
            pages = [page for level in levels for page in level]
            fits = (levels[0][0].imagewidth, levels[0][0].imagelength) == size_px
            # A tile is decoded completely, so its claimed size decides the memory that it needs.
            fits &= all(page.is_tiled and max(page.tilewidth, page.tilelength) <= MOST_SIDE for page in pages)
            fits &= all(page.dtype == np.float32 and page.samplesperpixel == 1 for page in pages)
        if not fits or any(len(level) != channels for level in levels):
            raise StoreError("does not agree with its summary", where=path, remedy=REMEDY)
        stack.pop_all()  # it stays open
    return tiff, levels


def _rings(
    collection: Mapping[str, Any], offset_px: tuple[float, float]
) -> list[list[list[tuple[float, float]]]]:
    """Rings of every polygon of a GeoJSON FeatureCollection, in level-0 pixels."""
    dx, dy = offset_px
    regions = []
    for feature in collection["features"]:
        rings = [[_point(point) for point in ring] for ring in feature["geometry"]["coordinates"]]
        regions.append([[(x + dx, y + dy) for x, y in ring] for ring in rings])
    return regions


def _point(values: Any) -> tuple[float, float]:
    """Two finite numbers."""
    x, y = (float(value) for value in values)
    if not (math.isfinite(x) and math.isfinite(y)):
        raise ValueError(f"a place that is not finite: {values}")
    return x, y


def _check_ranges(channels: Sequence[MapChannel]) -> None:
    for channel in channels:
        low, high = channel.range
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueError(f"range {low}..{high}")
