"""The tile grid of a slide: which tiles are cut, and how they are read."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import SlideError
from dirl.core.randomness import hashes
from dirl.slides.base import Slide, check_resolution
from dirl.slides.reading import read_box
from dirl.slides.tissue import TissueMask


@dataclass(frozen=True)
class TileSpec:
    """How tiles are cut.

    Attributes
    ----------
    size_px
        Side of a tile, in pixels at `mpp`.
    mpp
        Resolution of the tiles, in µm/px.
    stride_px
        Distance from one tile to the next, in pixels at `mpp`.
    min_tissue
        Least share of tissue in a tile.
    """

    size_px: int
    mpp: float
    stride_px: int
    min_tissue: float


@dataclass(frozen=True)
class Tile:
    """A tile of a slide; `x` and `y` are its top-left corner in level-0 pixels."""

    tile_id: str
    x: int
    y: int
    tissue_fraction: float


def plan_tiles(
    slide: Slide, tissue: TissueMask, spec: TileSpec, *, allow_upsample: bool = False
) -> list[Tile]:
    """Lay a grid over the slide from its top-left corner, and keep the tiles with enough tissue, row by row.

    Each tile is wholly on the slide. A `SlideError` tells that the slide is coarser than the tiles, smaller
    than one, or without tissue.
    """
    info = slide.info
    check_resolution(info, spec.mpp, allow_upsample=allow_upsample)
    scale = spec.mpp / info.mpp
    side = spec.size_px * scale
    # Half a pixel is tolerated: a slide as large as one tile gives one tile in spite of rounding.
    columns, rows = (int((extent - side + 0.5) // (spec.stride_px * scale)) + 1 for extent in info.size_px)
    if columns < 1 or rows < 1:
        raise SlideError(
            f"{info.size_px[0]}×{info.size_px[1]} px at {info.mpp:g} µm/px is smaller than one tile "
            f"({spec.size_px} px at {spec.mpp:g} µm/px)",
            where=info.path,
            remedy="choose a smaller size or a finer mpp",
        )
    x = np.round(np.arange(columns) * spec.stride_px * scale).astype(int)
    y = np.round(np.arange(rows) * spec.stride_px * scale).astype(int)
    fractions = tissue_fractions(tissue, x * info.mpp, y * info.mpp, spec.size_px * spec.mpp)
    name = dotless(info.slide_id)
    tiles = [
        Tile(f"{name}_{x[j]}_{y[i]}", int(x[j]), int(y[i]), float(fractions[i, j]))
        for i, j in np.argwhere((fractions >= spec.min_tissue) & (fractions > 0))
    ]
    if not tiles:
        raise SlideError(
            f"no tissue found: the best of {rows * columns} tiles has {fractions.max():.0%} tissue",
            where=info.path,
            remedy=f"lower --min-tissue (now {spec.min_tissue:g}), or leave the slide out"
            if fractions.any()
            else "leave the slide out: it is all glass",
        )
    return tiles


def drawn_from_all(tiles: Sequence[Tile], count: int) -> list[Tile]:
    """Draw `count` of the tiles by a hash of their names, in their order: the same tiles every time."""
    order = np.argsort(hashes(0, [tile.tile_id for tile in tiles]), kind="stable")
    return [tiles[i] for i in np.sort(order[:count])]


def around_the_middle(tiles: Sequence[Tile], count: int) -> list[Tile]:
    """Keep the `count` tiles nearest to the median position, in their order: one field, not a sample."""
    places = np.array([(tile.x, tile.y) for tile in tiles], dtype=float)
    distance = np.linalg.norm(places - np.median(places, axis=0), axis=1)
    return [tiles[i] for i in np.sort(np.argsort(distance, kind="stable")[:count])]


def read_tile(slide: Slide, tile: Tile, spec: TileSpec, *, allow_upsample: bool = False) -> NDArray[np.uint8]:
    """Read a tile's pixels, `uint8 (size_px, size_px, 3)`; see `dirl.slides.reading.read_box`."""
    side = spec.size_px
    return read_box(slide, tile.x, tile.y, side, side, spec.mpp, allow_upsample=allow_upsample)


def dotless(name: str) -> str:
    """Replace the dots of a name: WebDataset ends a sample's key at the first dot."""
    return name.replace(".", "_")


def tissue_fractions(
    tissue: TissueMask, x_um: NDArray[np.float64], y_um: NDArray[np.float64], side_um: float
) -> NDArray[np.float64]:
    """Share of tissue in every square box of a grid (rows, columns); partly covered pixels count in part.

    `x_um` (columns,) and `y_um` (rows,) are left and top edges of the boxes, in µm from the slide's corner.
    """
    total = np.pad(tissue.mask.cumsum(0, dtype=np.float64).cumsum(1), ((1, 0), (1, 0)))

    def up_to(lines: NDArray[np.float64], edges_um: NDArray[np.float64]) -> NDArray[np.float64]:
        position = np.clip(edges_um / tissue.mpp, 0, len(lines) - 1)
        first = np.minimum(position.astype(int), len(lines) - 2)
        part = (position - first)[:, None]
        return np.asarray(lines[first] * (1 - part) + lines[first + 1] * part)

    bands = up_to(total, y_um + side_um) - up_to(total, y_um)
    boxes = up_to(bands.T, x_um + side_um) - up_to(bands.T, x_um)
    return np.asarray(np.clip(boxes.T * (tissue.mpp / side_um) ** 2, 0, 1))
