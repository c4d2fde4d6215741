"""Regions that nuclei make: the ids of every pixel, and one set for each setting of ``dense.regions``.

Id 0 means that a pixel belongs to no region: usually it is glass. A nucleus outside the tissue mask still
belongs to the nuclei.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy import ndimage

from dirl.config import MAX_REGIONS
from dirl.core.errors import StoreError
from dirl.store.dataset import CellStore

Ids = NDArray[np.uint8] | NDArray[np.int32]
Mask = NDArray[np.bool_]

# A byte for each nucleus of a slide: about half a megabyte a slide.
CACHED_SLIDES = 256


@dataclass(frozen=True)
class TileNuclei:
    """The nuclei of one tile, and its slide.

    Attributes
    ----------
    labels
        (h, w), 0 where there is no nucleus. If `RegionSet.single` is false, all nuclei may have the label 1.
    tissue
        Where there is tissue, (h, w).
    ids
        For each label, from 0, the nucleus's id in its slide; empty if no single nuclei are needed.
    """

    labels: NDArray[np.integer]
    tissue: Mask
    ids: NDArray[np.int32]
    slide_id: str


@dataclass(frozen=True)
class RegionSet:
    """A way to make regions of nuclei.

    Attributes
    ----------
    names
        Names of the regions, in the order of their ids from 1; empty if they have no names.
    count
        How many regions there are.
    nuclei
        The first `nuclei` regions are nuclei.
    draw
        Draws the ids (h, w): 0 none and ``r + 1`` for region ``r``.
    single
        Whether it needs instance labels (10 × slower to read).
    stored
        Whether the store holds just these regions.
    """

    names: tuple[str, ...]
    count: int
    nuclei: int
    draw: Callable[[TileNuclei], Ids]
    single: bool = False
    stored: bool = False


def cells() -> RegionSet:
    """Nuclei, and the rest of the tissue."""
    return RegionSet(("nuclei", "rest"), 2, 1, _cells, stored=True)


def tissue_rings(ring_px: float) -> RegionSet:
    """Nuclei, a ring of `ring_px` around them, and the rest of the tissue."""
    return RegionSet(("nuclei", "ring", "rest"), 3, 1, partial(_tissue_rings, ring_px))


def all_tissue() -> RegionSet:
    """One region: all tissue, nuclei included."""
    return RegionSet(("tissue",), 1, 0, _all_tissue)


def classes(store: CellStore, slides: list[str]) -> RegionSet:
    """One region for each class of nuclei that the segmenter names, and the rest of the tissue.

    No classes, or too many, are a `StoreError`.
    """
    found = (store.nuclei(slide, ["class"])["class"].unique().to_pylist() for slide in slides)
    names = tuple(sorted(set().union(*found) - {None}))
    if not 0 < len(names) < MAX_REGIONS:
        what = f"names {len(names)} classes of nuclei" if names else "names no classes of nuclei"
        raise StoreError(
            f"{store.name} {what}, which dense.regions: classes needs",
            where=store.path,
            remedy="set dense.regions to cells or tissue, or `cells` to a segmenter that names classes",
        )
    return RegionSet(
        (*names, "rest"), len(names) + 1, len(names), partial(_classes, store, names), single=True
    )


def single_nuclei(most: int) -> RegionSet:
    """Every nucleus by itself, numbered 1..m within the tile; at most `most` of them are followed."""
    return RegionSet((), most, most, _numbers, single=True)


def _cells(tile: TileNuclei) -> Ids:
    return cell_region_ids(tile.labels, tile.tissue)


def _tissue_rings(ring_px: float, tile: TileNuclei) -> Ids:
    return ring_ids(tile.labels, tile.tissue, ring_px)


def _all_tissue(tile: TileNuclei) -> Ids:
    return (tile.tissue | (tile.labels > 0)).view(np.uint8)


def _classes(store: CellStore, names: tuple[str, ...], tile: TileNuclei) -> Ids:
    regions = _regions_by_id(store, tile.slide_id, names)[tile.ids]
    return class_ids(tile.labels, tile.tissue, regions, len(names))


def _numbers(tile: TileNuclei) -> Ids:
    """Number the remaining nuclei 1..m. Gaps would be nuclei with area 0."""
    exists = np.bincount(tile.labels.ravel()) > 0
    exists[0] = False
    return np.asarray((np.cumsum(exists) * exists).astype(np.int32)[tile.labels])


@lru_cache(CACHED_SLIDES)
def _regions_by_id(store: CellStore, slide_id: str, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """For each id of a slide the region of the nucleus's class, from 1; 0 for a nucleus without a class."""
    nuclei = store.nuclei(slide_id, ["id", "class"])
    ids = nuclei["id"].to_numpy()
    place = pc.fill_null(pc.index_in(nuclei["class"], pa.array(names, pa.string())), -1)
    regions = np.zeros(ids.max(initial=0) + 1, np.uint8)
    regions[ids] = place.to_numpy() + 1
    return regions


def cell_region_ids(labels: NDArray[np.integer], tissue: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Region of every pixel (h, w) in the set ``cells``: 0 none, 1 nuclei, 2 the rest of the tissue.

    `labels` (h, w) are instance labels, 0 where there is no nucleus, and `tissue` (h, w) is a mask.
    """
    return np.where(labels > 0, 1, np.where(tissue, 2, 0)).astype(np.uint8)


def class_ids(
    labels: NDArray[np.integer], tissue: NDArray[np.bool_], classes: NDArray[np.uint8], count: int
) -> NDArray[np.uint8]:
    """Region of every pixel (h, w) in the set ``classes``: 0 none, 1 to `count` the classes, then the rest.

    `classes` gives for each label from 0 the region of its class. A nucleus without a class has 0: it belongs
    to no region, not even to the rest.
    """
    return np.where((labels == 0) & tissue, np.uint8(count + 1), classes.take(labels))


def ring_ids(labels: NDArray[np.integer], tissue: NDArray[np.bool_], ring_px: float) -> NDArray[np.uint8]:
    """Region of every pixel (h, w) in the set ``tissue``: 0 glass, 1 nuclei, 2 the ring, 3 the rest.

    The ring of width `ring_px` is the tissue near a nucleus: cytoplasm, and stroma.
    """
    nuclei = labels > 0
    around = np.where(within(nuclei, ring_px), np.uint8(2), np.uint8(3))
    return np.where(nuclei, np.uint8(1), around * tissue)


def colour_ids(rgb: NDArray[np.uint8], tissue: Mask, mpp: float) -> NDArray[np.uint8]:
    """Region of every pixel (h, w) in the set ``colour``: 0 glass, then terciles of red density, dark first.

    The red channel of `rgb` (h, w, 3) is smoothed over 1 µm, so that a region is no noise. Terciles are of
    the smoothed red itself: the logarithm of the density does not change their order.
    """
    red = ndimage.uniform_filter(rgb[..., 0].astype(np.float32), max(1, round(1 / mpp)), mode="nearest")
    if not tissue.any():
        return np.zeros(tissue.shape, np.uint8)
    limits = np.quantile(red[tissue], (1 / 3, 2 / 3))
    return np.where(tissue, np.searchsorted(limits, red) + 1, 0).astype(np.uint8)


def grid_ids(height_px: int, width_px: int, columns: tuple[int, ...]) -> NDArray[np.uint8]:
    """Region of every pixel, (height_px, width_px): boxes, from 1, row by row.

    Rows have equal heights, and `columns` says into how many equal boxes each is cut.
    """
    per_row = np.array(columns)
    row = np.arange(height_px)[:, None] * len(columns) // height_px
    column = np.arange(width_px) * per_row[row] // width_px
    ids: NDArray[np.uint8] = ((np.cumsum(per_row) - per_row)[row] + column + 1).astype(np.uint8)
    return ids


def grid_shape(count: int) -> tuple[int, ...]:
    """Columns of each row of `count` boxes, as near to a square as possible: 4 is (2, 2), 3 is (3,)."""
    rows = next(n for n in range(math.isqrt(count), 0, -1) if count % n == 0)
    return (count // rows,) * rows


def within(mask: NDArray[np.bool_], radius_px: float) -> NDArray[np.bool_]:
    """Pixels whose Euclidean distance to `mask` is at most a radius.

    A disk is put together from rows of growing width. At the radii of a ring, 4 to 16 px, this is exact, and
    eight to twenty-five times faster than a distance transform.
    """
    reach = int(radius_px)
    row = mask.copy()
    rows = [row]
    for width in range(1, reach + 1):
        row = row.copy()
        row[:, width:] |= mask[:, :-width]
        row[:, :-width] |= mask[:, width:]
        rows.append(row)
    near = row.copy()
    for height in range(1, reach + 1):
        row = rows[int(math.sqrt(radius_px**2 - height**2))]
        near[height:] |= row[:-height]
        near[:-height] |= row[height:]
    return near
