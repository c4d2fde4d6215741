"""The places of a map's pixels and tiles. A pixel is a patch token; tiles are whole tokens apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import SlideError
from dirl.slides.base import SlideInfo
from dirl.slides.tiling import tissue_fractions
from dirl.slides.tissue import TissueMask

BAND = 1024  # rows of the map that are processed together
SMALLEST_PX = 64  # longer side of the coarsest level, at most


@dataclass(frozen=True)
class MapGrid:
    """The raster of a map, which begins at the corner of the slide, or of its bounds where it has any.

    Pixel (i, j) covers rows ``y + [i·s, (i + 1)·s)`` and columns ``x + [j·s, (j + 1)·s)`` of level 0. Here s
    is `token_level0_px`, and (x, y) is `origin_px`. QuPath crops a slide to its bounds, so the first pixel of
    the map lies on the first pixel in QuPath.

    Tiles begin on the raster. So tokens of overlapping tiles cover the same places, and nothing is resampled.
    A rest at the right and the bottom that is narrower than a token is not on the map.

    Attributes
    ----------
    shape
        Rows and columns of the map, in tokens.
    token_level0_px, token_um
        Side of a token in level-0 pixels (may be a fraction) and in µm.
    tile_px
        Side of a tile in the pixels that it is read in.
    tile_tokens
        Tokens along a tile's side.
    stride_tokens
        Distance from one tile to the next.
    origin_px
        Level-0 pixel, x and y, at which the raster begins.
    """

    shape: tuple[int, int]
    token_level0_px: float
    token_um: float
    tile_px: int
    tile_tokens: int
    stride_tokens: int
    origin_px: tuple[int, int] = (0, 0)

    @property
    def origin_um(self) -> tuple[float, float]:
        """The origin in µm from the slide's corner."""
        x, y = (at * self.token_um / self.token_level0_px for at in self.origin_px)
        return x, y

    @property
    def levels(self) -> list[tuple[int, int]]:
        """Shape of every level of the pyramid, each half of the one before, rounded up."""
        shapes = [self.shape]
        while max(shapes[-1]) > SMALLEST_PX:
            rows, columns = shapes[-1]
            shapes.append((-(-rows // 2), -(-columns // 2)))
        return shapes


@dataclass(frozen=True)
class MapTiles:
    """The tiles of a map, row by row: top-left corners in tokens, and shares of tissue tokens; all (t,)."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    tissue_fraction: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.rows)

    def corners(self, grid: MapGrid) -> NDArray[np.float64]:
        """Their top-left corners in level-0 pixels, x and y, shape (t, 2)."""
        x, y = grid.origin_px
        side = np.float64(grid.token_level0_px)
        return np.stack([self.columns * side + x, self.rows * side + y], axis=1)


def make_grid(info: SlideInfo, tile_px: int, mpp: float, overlap: float, tile_tokens: int) -> MapGrid:
    """Lay a map's raster over a slide. A slide smaller than a tile raises a `SlideError`.

    `tile_px` is the side of a tile, in pixels at `mpp`. `overlap` is the share of this side that the next
    tile covers too; it is rounded to whole tokens.
    """
    token_um = tile_px * mpp / tile_tokens
    side = token_um / info.mpp
    # Half a pixel of tolerance: a slide as large as its tile stays one tile in spite of rounding.
    x, y, width, height = info.bounds
    columns, rows = (int((extent + 0.5) / side) for extent in (width, height))
    if min(rows, columns) < tile_tokens:
        raise SlideError(
            f"{width}×{height} px at {info.mpp:g} µm/px is smaller than one tile "
            f"({tile_px} px at {mpp:g} µm/px)",
            where=info.path,
            remedy="ask for a smaller --size or a finer --mpp",
        )
    stride = max(1, round(tile_tokens * (1 - overlap)))
    return MapGrid((rows, columns), side, token_um, tile_px, tile_tokens, stride, (x, y))


def tissue_tokens(grid: MapGrid, tissue: TissueMask) -> NDArray[np.bool_]:
    """Tokens at least half of which is tissue, in the shape of the map."""
    y_um, x_um = (
        np.arange(count, dtype=np.float64) * np.float64(grid.token_um) + start
        for count, start in zip(grid.shape, grid.origin_um[::-1], strict=True)
    )
    bands = [
        tissue_fractions(tissue, x_um, y_um[top : top + BAND], grid.token_um) >= 0.5
        for top in range(0, grid.shape[0], BAND)
    ]
    return np.concatenate(bands)


def choose_tiles(grid: MapGrid, tissue: NDArray[np.bool_], min_tissue: float, where: object) -> MapTiles:
    """Choose the tiles whose share of tissue tokens is above 0 and at least `min_tissue`.

    The last tile of each row and column ends at the map's edge. `tissue` has the map's shape, and `where` is
    the slide. Without a tile it raises a `SlideError`.
    """
    rows, columns = (starts(extent, grid.tile_tokens, grid.stride_tokens) for extent in grid.shape)
    total = np.pad(tissue.cumsum(0, dtype=np.int64).cumsum(1), ((1, 0), (1, 0)))
    bands = total[rows + grid.tile_tokens] - total[rows]
    counts = bands[:, columns + grid.tile_tokens] - bands[:, columns]
    fractions = counts / grid.tile_tokens**2
    chosen = np.argwhere((fractions > 0) & (fractions >= min_tissue))
    if not len(chosen):
        raise SlideError(
            f"no tissue found: the fullest of {fractions.size} tiles holds {fractions.max():.0%}",
            where=where,
            remedy=f"lower --min-tissue (now {min_tissue:g}), or leave the slide out",
        )
    i, j = chosen.T
    return MapTiles(rows[i], columns[j], fractions[i, j])


def starts(extent: int, side: int, stride: int) -> NDArray[np.int64]:
    """Starts of tiles of this side that cover a whole line of tokens."""
    return np.unique(np.append(np.arange(0, extent - side + 1, stride), extent - side))
