"""Which regions a tile's nuclei make: one small class for each setting of ``dense.regions``.

The arrays themselves are drawn by the functions of `dirl.prior.regions`.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dirl.core.errors import StoreError
from dirl.prior.regions import class_ids, region_ids, ring_ids
from dirl.store.dataset import CellStore

Ids = NDArray[np.uint8] | NDArray[np.int32]
Mask = NDArray[np.bool_]

# A byte for each nucleus of a slide: about half a megabyte a slide.
CACHED_SLIDES = 256
MAX_REGIONS = 255


@dataclass(frozen=True)
class TileNuclei:
    """The nuclei of one tile.

    Attributes
    ----------
    labels
        Nuclei (h, w), 0 where there is none.
    tissue
        Where there is tissue, bool (h, w).
    ids
        For each label, from 0, the nucleus's id in its slide.
    slide_id
        The slide.
    """

    labels: NDArray[np.int32]
    tissue: Mask
    ids: NDArray[np.int32]
    slide_id: str


class RegionSet(ABC):
    """A way to make regions of nuclei.

    Attributes
    ----------
    names
        Names of the regions, in the order of their ids from 1; empty if they have no names.
    count
        How many regions there are.
    nuclei
        How many of the regions, from the first, are nuclei.
    """

    def __init__(self, names: tuple[str, ...], *, nuclei: int, count: int | None = None) -> None:
        self.names, self.nuclei = names, nuclei
        self.count = len(names) if count is None else count

    def of_stored(self, stored: NDArray[np.uint8]) -> Ids | None:
        """Draw the ids from the regions that the store holds; None if this set needs every nucleus.

        Stored regions are read in a tenth of the time that labels take.
        """
        return None

    @abstractmethod
    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Draw the ids from nuclei: (h, w), 0 none and ``r + 1`` for region ``r``."""


class Cells(RegionSet):
    """Nuclei, and the rest of the tissue."""

    def __init__(self) -> None:
        super().__init__(("nuclei", "rest"), nuclei=1)

    def of_stored(self, stored: NDArray[np.uint8]) -> Ids:
        """Return the stored regions: they are this set."""
        return stored

    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Draw two regions."""
        return region_ids(tile.labels, tile.tissue)


class Rings(RegionSet):
    """Nuclei, a ring of `ring_px` around them, and the rest of the tissue."""

    def __init__(self, ring_px: float) -> None:
        super().__init__(("nuclei", "ring", "rest"), nuclei=1)
        self.ring_px = ring_px

    def of_stored(self, stored: NDArray[np.uint8]) -> Ids:
        """Draw three regions."""
        return ring_ids(stored == 1, stored > 0, self.ring_px)

    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Draw three regions."""
        return ring_ids(tile.labels, tile.tissue, self.ring_px)


class Tissue(RegionSet):
    """One region: all tissue, nuclei included."""

    def __init__(self) -> None:
        super().__init__(("tissue",), nuclei=0)

    def of_stored(self, stored: NDArray[np.uint8]) -> Ids:
        """Return 1 where there is tissue or a nucleus."""
        return (stored > 0).view(np.uint8)

    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Return 1 where there is tissue or a nucleus."""
        return (tile.tissue | (tile.labels > 0)).view(np.uint8)


class Classes(RegionSet):
    """One region for each class of nuclei that the segmenter names, and the rest of the tissue.

    Parameters
    ----------
    cells
        Where the classes are read.
    slides
        All slides of the store.

    Raises
    ------
    StoreError
        If there are no classes, or too many.
    """

    def __init__(self, cells: CellStore, slides: list[str]) -> None:
        found = (cells.nuclei(slide, ["class"])["class"].unique().to_pylist() for slide in slides)
        self.cells, self.classes = cells, tuple(sorted(set().union(*found) - {None}))
        count = len(self.classes)
        super().__init__((*self.classes, "rest"), nuclei=count)
        if not 0 < count < MAX_REGIONS:
            what = f"names {count} classes of nuclei" if count else "names no classes of nuclei"
            raise StoreError(
                f"{cells.segmenter} {what}, which dense.regions: classes needs",
                where=cells.path,
                remedy="set dense.regions to cells or tissue, or `cells` to a segmenter that names classes",
            )

    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Draw a region for each class."""
        regions = _regions_by_id(self.cells, tile.slide_id, self.classes)[tile.ids]
        return class_ids(tile.labels, tile.tissue, regions, len(self.classes))


class SingleNuclei(RegionSet):
    """Every nucleus by itself, numbered 1..m within the tile; at most `most` of them are followed."""

    def __init__(self, most: int) -> None:
        super().__init__((), nuclei=most, count=most)

    def of_nuclei(self, tile: TileNuclei) -> Ids:
        """Number the nuclei without gaps: a number without pixels would have no area to compare with."""
        exists = np.bincount(tile.labels.ravel()) > 0
        exists[0] = False
        return np.asarray((np.cumsum(exists) * exists).astype(np.int32)[tile.labels])


@lru_cache(CACHED_SLIDES)
def _regions_by_id(cells: CellStore, slide_id: str, classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """For each id of a slide the region of the nucleus's class, from 1; 0 for a nucleus without a class."""
    nuclei = cells.nuclei(slide_id, ["id", "class"])
    ids = nuclei["id"].to_numpy()
    place = pc.fill_null(pc.index_in(nuclei["class"], pa.array(classes, pa.string())), -1)
    regions = np.zeros(ids.max(initial=0) + 1, np.uint8)
    regions[ids] = place.to_numpy() + 1
    return regions
