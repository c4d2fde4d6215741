"""Sources of a tile's region ids: boxes, or nuclei, which a control or noise may change first."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dirl.config import NoiseConfig
from dirl.core.randomness import hashes
from dirl.prior import noise
from dirl.prior.noise import Labels
from dirl.prior.regions import Ids, Mask, RegionSet, TileNuclei, colour_ids, grid_ids
from dirl.slides.tissue import tissue_pixels
from dirl.store.dataset import CellStore, TileStore

# A cohort has hundreds of millions of nuclei: their mean area is taken from a few slides.
SLIDES_FOR_AREA = 32


@dataclass(frozen=True)
class Boxes:
    """Boxes, which need no cells; a single box is the whole tile.

    Attributes
    ----------
    columns
        Into how many boxes each row of the tile is cut.
    side_px
        Side of a tile.
    """

    columns: tuple[int, ...]
    side_px: int
    cells: ClassVar[None] = None

    @property
    def count(self) -> int:
        """How many boxes there are."""
        return sum(self.columns)

    def ids(self, i: int) -> Ids:
        """Return the boxes, the same for every tile."""
        return grid_ids(self.side_px, self.side_px, self.columns)


@dataclass(frozen=True)
class Colour:
    """Terciles of red optical density in a tile's tissue: dark, middle and light regions without cells.

    Hematoxylin absorbs red, so nuclei are dark. What nuclei do and these do not is due to the cells.
    """

    tiles: TileStore
    count: ClassVar[int] = 3
    names: ClassVar[tuple[str, ...]] = ("dark", "middle", "light")
    cells: ClassVar[None] = None

    def ids(self, i: int) -> Ids:
        """Cut a tile's tissue into terciles; the ids are 1 (dark) to 3 (light), and 0 on glass."""
        rgb, mpp = self.tiles.image(i), self.tiles.spec.mpp
        white = self.tiles.slides[self.tiles.index["slide_id"][i].as_py()].white
        return colour_ids(rgb, tissue_pixels(rgb, mpp, white), mpp)


Change = Callable[[Labels, Mask, int], Labels]
"""Changes the nuclei of a tile: labels and tissue (h, w), and a key, which is the same in every epoch."""


DAMAGES: dict[str, Callable[[Labels, float, int], Labels]] = {
    "drop": noise.drop,
    "dilate": lambda labels, px, key: noise.dilate(labels, px),
    "erode": lambda labels, px, key: noise.erode(labels, px),
    "shift": noise.shift,
}


@dataclass(frozen=True)
class Damage:
    """The noise that works within a tile; ``shuffle`` swaps tiles instead, see `CellRegions.partner`."""

    config: NoiseConfig

    def __call__(self, labels: Labels, tissue: Mask, key: int) -> Labels:
        """Damage the labels."""
        return DAMAGES[self.config.kind](labels, self.config.strength, key)


@dataclass(frozen=True)
class CellRegions:
    """Regions that are made of the nuclei of a store.

    Attributes
    ----------
    regions
        How regions are made of nuclei.
    seed
        Key of what is random in `change`.
    change
        What is done to the nuclei first: `dirl.prior.noise.move`, or `Damage`; None for nothing.
    partner
        For each tile the tile whose nuclei it is given, shape (tiles,); None if each has its own.
    """

    tiles: TileStore
    cells: CellStore
    regions: RegionSet
    seed: int
    change: Change | None = None
    partner: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """How many regions there are."""
        return self.regions.count

    def ids(self, i: int) -> Ids:
        """Return the ids of tile `i`; raise a `StoreError` if the store is damaged."""
        source = i if self.partner is None else int(self.partner[i])
        stored = self.cells.regions(source)
        if self.change is None and self.regions.stored:
            return stored
        tissue, slide_id = stored > 0, self.tiles.index["slide_id"][source].as_py()
        if self.change is None and not self.regions.single:
            nuclei = (stored == 1).view(np.uint8)
            return self.regions.draw(TileNuclei(nuclei, tissue, np.empty(0, np.int32), slide_id))
        labels, nucleus_ids = self.cells.numbers(source)
        if self.change is not None:
            key = int(hashes(self.seed, [self.tiles.index["tile_id"][i].as_py()])[0])
            labels = self.change(labels, tissue, key)
        return self.regions.draw(TileNuclei(labels, tissue, nucleus_ids, slide_id))


RegionSource = Boxes | Colour | CellRegions
"""Gives the region ids of a tile. It can be sent to worker processes."""


def mean_area_um2(tiles: TileStore, cells: CellStore) -> float | None:
    """Mean area of the nuclei of up to 32 slides, evenly spread over the store; None without nuclei."""
    slides = list(tiles.slides)
    count = min(SLIDES_FOR_AREA, len(slides))
    chosen = np.unique(np.linspace(0, len(slides) - 1, count).astype(int)).tolist()
    areas = np.concatenate([cells.nuclei(slides[i], ["area_um2"])["area_um2"].to_numpy() for i in chosen])
    mean = float(areas.mean()) if len(areas) else 0.0
    return mean if mean > 0 else None


def shuffled_partners(tiles: TileStore, seed: int, share: float = 1.0) -> NDArray[np.int64]:
    """Give a share of the tiles of each slide the nuclei of another tile, the same in every epoch.

    Return the index of the tile whose nuclei each tile is given, shape (tiles,).
    """
    return noise.shuffled(seed, list(tiles.tile_ids), list(tiles.slide_ids), share)
