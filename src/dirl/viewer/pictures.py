"""Pictures for a pane as Deep Zoom tiles: a slide, or a store's tiles laid out as one picture."""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from dirl.core.boundary import parsing
from dirl.slides.base import SAME_MPP, Slide
from dirl.slides.reading import read_box
from dirl.store.dataset import TileStore

TILE_PX = 256
JPEG_QUALITY = 88
# Largest number of pixels of a level that are read at once. Larger boxes are read in quarters.
MOST_PX = 2**23


class PyramidPicture(Protocol):
    """A picture that can be read at any power of two."""

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height at full resolution."""
        ...

    @property
    def mpp(self) -> float:
        """Full resolution, in µm/px."""
        ...

    def step(self, downsample: int) -> float:
        """Pixels along a side that are read for one pixel at this `downsample`."""
        ...

    def read(self, x: int, y: int, w: int, h: int, downsample: int) -> NDArray[np.uint8]:
        """Read a box, uint8 (h, w, 3). All four numbers are in pixels at this `downsample`."""
        ...


@dataclass(frozen=True)
class SlidePicture:
    """A slide, or a plain image."""

    slide: Slide

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of level 0."""
        return self.slide.info.size_px

    @property
    def mpp(self) -> float:
        """Resolution of level 0, in µm/px."""
        return self.slide.info.mpp

    def step(self, downsample: int) -> float:
        """Pixels of the nearest level that is at least as fine; see `PyramidPicture`."""
        levels = self.slide.info.level_downsamples
        return downsample / max(d for d in levels if d <= downsample * (1 + SAME_MPP))

    def read(self, x: int, y: int, w: int, h: int, downsample: int) -> NDArray[np.uint8]:
        """Read a box; see `PyramidPicture`."""
        return read_box(self.slide, x * downsample, y * downsample, w, h, self.mpp * downsample)


@dataclass(frozen=True)
class Mosaic:
    """Tiles of a store laid out as one picture: in rows, or at their places on the slide.

    `rows` are the numbers of the tiles, `x` and `y` their top-left corners, and `side_px` their side, in
    pixels of the picture. `ground` is the colour between them.
    """

    store: TileStore
    rows: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    side_px: float
    size_px: tuple[int, int]
    mpp: float
    ground: tuple[int, int, int]

    def step(self, downsample: int) -> float:
        """1, since JPEGs are decoded at a reduced size; see `PyramidPicture`."""
        return 1.0

    def read(self, x: int, y: int, w: int, h: int, downsample: int) -> NDArray[np.uint8]:
        """Read a box; see `PyramidPicture`."""
        box = np.empty((h, w, 3), np.uint8)
        box[:] = self.ground
        picture = Image.fromarray(box)
        left, top = self.x / downsample - x, self.y / downsample - y
        side = self.side_px / downsample
        near = (left < w) & (top < h) & (left + side > 0) & (top + side > 0)
        for k in np.flatnonzero(near).tolist():
            x0, y0, x1, y1 = (round(v) for v in (left[k], top[k], left[k] + side, top[k] + side))
            if x1 > x0 and y1 > y0:
                tile = Image.fromarray(self._decode(int(self.rows[k]), math.ceil(side)))
                picture.paste(tile.resize((x1 - x0, y1 - y0), Image.Resampling.BOX, reducing_gap=2), (x0, y0))
        return np.asarray(picture)

    def _decode(self, i: int, side: int) -> NDArray[np.uint8]:
        data, remedy = self.store.jpeg(i), "make the store again: `dirl tile --overwrite`"
        with parsing(self.store.path, remedy=remedy, what=f"damaged JPEG of tile {i}"):
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB", min_height=side, min_width=side)
        return pixels


def top_level(size_px: tuple[int, int]) -> int:
    """Deep Zoom level of full resolution; level 0 is one pixel."""
    return max(0, math.ceil(math.log2(max(size_px))))


def deep_zoom_tile(picture: PyramidPicture, level: int, column: int, row: int) -> bytes | None:
    """Make one Deep Zoom tile as JPEG, or None if the picture has no such tile.

    `level` 0 is one pixel. `column` and `row` are the tile's place in a grid of `TILE_PX`.
    """
    top = top_level(picture.size_px)
    if not 0 <= level <= top:
        return None
    downsample = 2 ** (top - level)
    width, height = (math.ceil(side / downsample) for side in picture.size_px)
    x, y = column * TILE_PX, row * TILE_PX
    if not (0 <= x < width and 0 <= y < height):
        return None
    rgb = read_reduced(picture, x, y, min(TILE_PX, width - x), min(TILE_PX, height - y), downsample)
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), JPEG_QUALITY, "RGB", "444"))


def read_reduced(
    picture: PyramidPicture, x: int, y: int, w: int, h: int, downsample: int
) -> NDArray[np.uint8]:
    """Read a box like `PyramidPicture.read`, but at most `MOST_PX` at once."""
    if downsample == 1 or w * h * picture.step(downsample) ** 2 <= MOST_PX:
        return picture.read(x, y, w, h, downsample)
    quarters = [
        [read_reduced(picture, 2 * x + i * w, 2 * y + j * h, w, h, downsample // 2) for i in (0, 1)]
        for j in (0, 1)
    ]
    whole = np.vstack([np.hstack(line) for line in quarters]).astype(np.uint16)
    return ((whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2] + 2) // 4).astype(
        np.uint8
    )
