"""Where the region ids of a tile come from: the region set, its controls, and damage done to it."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dirl.config import DenseConfig, PretrainRecipe
from dirl.core.errors import ConfigError, StoreError
from dirl.core.randomness import hashes
from dirl.prior import noise
from dirl.prior.moved import move
from dirl.prior.regions import REGION_SETS, class_ids, grid_ids, grid_shape, region_ids, ring_ids
from dirl.store.dataset import CellStore, TileStore

# A byte for every nucleus of a slide: half a megabyte or so each.
CACHED_SLIDES = 256
MAX_REGIONS = 255
OF_CELLS = ("shuffled", "moved", "grid", "tissue-only")


@dataclass(frozen=True)
class Prior:
    """What the dense term is told of a tile; pickles as `TileStore` does.

    Attributes
    ----------
    names
        Names of the regions, in the order of their ids from 1; of the slots, where nuclei are followed.
    instances
        The most nuclei of a tile that are followed one by one; 0 where ids are regions.
    tiles
        The tiles.
    cells
        Their cells; None where the prior is a grid, which needs none.
    dense
        Settings of the dense term.
    seed
        Key of what is random: the same for a tile in every epoch.
    partner
        For each tile the tile whose cells it is given, shape (tiles,); None where each has its own.
    """

    names: tuple[str, ...]
    instances: int
    tiles: TileStore
    cells: CellStore | None
    dense: DenseConfig
    seed: int
    partner: NDArray[np.int64] | None = None

    def ids(self, i: int) -> NDArray[np.uint8] | NDArray[np.int32]:
        """Ids of tile `i`.

        Returns
        -------
        ndarray of shape (h, w)
            Regions as uint8, 0 none and ``r + 1`` for the region ``names[r]``; or, where nuclei are followed,
            their numbers within the tile as int32, 0 none and 1..m.

        Raises
        ------
        StoreError
            If the store is damaged.
        """
        if self.cells is None:
            side = self.tiles.spec.size_px
            return grid_ids(side, side, *grid_shape(len(self.names)))
        source = i if self.partner is None else int(self.partner[i])
        stored = self.cells.regions(source)
        tissue = stored > 0
        if self.dense.control == "tissue-only":
            return tissue.view(np.uint8)
        ring_px = self.dense.ring_um / self.tiles.spec.mpp
        changed = self.dense.control == "moved" or self.dense.noise is not None
        # What is stored tells as much as labels do, and is read in a tenth of the time.
        if not changed and not self.instances and self.dense.regions == "cells":
            return stored
        if not changed and self.dense.regions == "tissue":
            return ring_ids(stored == 1, tissue, ring_px)
        labels, ids = self.cells.numbers(source)
        if changed:
            labels = self._change(labels, tissue, i)
        if self.instances:
            return _without_gaps(labels) if changed else labels
        if self.dense.regions == "cells":
            return region_ids(labels, tissue)
        if self.dense.regions == "tissue":
            return ring_ids(labels, tissue, ring_px)
        slide_id = self.tiles.index["slide_id"][source].as_py()
        classes = _regions_by_id(self.cells, slide_id, self.names[:-1])[ids]
        return class_ids(labels, tissue, classes, len(self.names) - 1)

    def _change(self, labels: noise.Labels, tissue: NDArray[np.bool_], i: int) -> noise.Labels:
        """Nuclei moved for the control, or damaged."""
        key = int(hashes(self.seed, [self.tiles.index["tile_id"][i].as_py()])[0])
        if self.dense.noise is None:
            return move(labels, tissue, key)
        strength = self.dense.noise.strength
        match self.dense.noise.kind:
            case "drop":
                return noise.drop(labels, strength, key)
            case "dilate":
                return noise.dilate(labels, strength)
            case "erode":
                return noise.erode(labels, strength)
            case "shift":
                return noise.shift(labels, strength, key)
            case "shuffle":  # done: see `partner`
                return labels


def make_prior(recipe: PretrainRecipe, tiles: TileStore) -> Prior | None:
    """Make what the dense term of a recipe reads; None where it reads nothing.

    ``shuffled`` gives every tile the nuclei and the tissue of another tile of its slide (of its class, where
    tiles are ready-made), as the noise ``shuffle`` does with a share of them; ``grid`` as a control has as
    many boxes as the set that it stands in for has regions; ``tissue-only`` is one region, all that is not
    glass, nuclei included.

    Raises
    ------
    ConfigError
        If settings of the dense term do not go together.
    StoreError
        If there are no such cells, or they do not tell what the region set needs.
    """
    dense = recipe.dense
    if not dense.weight:
        return None
    _check(dense)
    if dense.control in ("one", "twice"):
        return None
    if dense.regions == "grid":
        return Prior(_boxes(dense.grid_side**2), 0, tiles, None, dense, recipe.seed)
    cells = tiles.cells(recipe.cells)
    names = (*_classes(tiles, cells), "rest") if dense.regions == "classes" else REGION_SETS[dense.regions]
    instances = 0
    partner = None
    if dense.match == "instance":
        instances = dense.instances
        names = tuple(f"nucleus {slot + 1}" for slot in range(instances))
    if dense.control == "grid":
        return Prior(_boxes(len(names)), 0, tiles, None, dense, recipe.seed)
    if dense.control == "tissue-only":
        names = ("tissue",)
    if dense.control == "shuffled":
        partner = shuffled_partners(tiles, recipe.seed)
    elif dense.noise is not None and dense.noise.kind == "shuffle":
        partner = shuffled_partners(tiles, recipe.seed, dense.noise.strength)
    return Prior(names, instances, tiles, cells, dense, recipe.seed, partner)


def shuffled_partners(tiles: TileStore, seed: int, share: float = 1.0) -> NDArray[np.int64]:
    """Give a share of the tiles of each slide the cells of another of them, once and for all.

    Returns
    -------
    ndarray of shape (tiles,)
        Index of the tile whose cells each is given.
    """
    return noise.shuffled(seed, list(tiles.tile_ids), list(tiles.slide_ids), share)


def _check(dense: DenseConfig) -> None:
    """Refuse what means nothing, with the first reason that holds."""
    match, regions, control, noisy = dense.match, dense.regions, dense.control, dense.noise is not None
    at_odds = {
        f"match: instance follows single nuclei, so it goes with regions: cells, not {regions}": (
            match == "instance" and regions != "cells"
        ),
        f"match: instance follows single nuclei, which control: {control} does not have": (
            match == "instance" and control not in (None, "shuffled", "moved")
        ),
        f"regions: grid has no cells for control: {control} to change": (
            regions == "grid" and control in OF_CELLS
        ),
        "regions: grid has no cells for noise to damage": regions == "grid" and noisy,
        f"noise damages a tile's true cells, which control: {control} does not have": (
            noisy and control is not None
        ),
    }
    for reason in (reason for reason, holds in at_odds.items() if holds):
        raise ConfigError(reason, where="dense", remedy="leave one of the two out")
    if regions == "grid" and dense.grid_side**2 > MAX_REGIONS:
        raise ConfigError(
            f"more than {MAX_REGIONS} regions", where="dense.grid_side", remedy="make it smaller"
        )
    if dense.noise is not None and dense.noise.kind in ("drop", "shuffle") and dense.noise.strength > 1:
        raise ConfigError(
            f"a share of {dense.noise.strength:g} to {dense.noise.kind}",
            where="dense.noise.strength",
            remedy="state a share of at most 1",
        )


def _boxes(count: int) -> tuple[str, ...]:
    rows, columns = grid_shape(count)
    return tuple(f"row {row + 1} column {column + 1}" for row in range(rows) for column in range(columns))


def _classes(tiles: TileStore, cells: CellStore) -> tuple[str, ...]:
    """Names of all classes of nuclei in a store, sorted.

    Raises
    ------
    StoreError
        If there are none, or too many.
    """
    found = (cells.nuclei(slide, ["class"])["class"].unique().to_pylist() for slide in tiles.slides)
    names = sorted(set().union(*found) - {None})
    if not names or len(names) >= MAX_REGIONS:
        what = "names no classes of nuclei" if not names else f"names {len(names)} classes of nuclei"
        raise StoreError(
            f"{cells.segmenter} {what}, which dense.regions: classes needs",
            where=cells.path,
            remedy="set dense.regions to cells or tissue, or `cells` to a segmenter that tells nuclei apart",
        )
    return tuple(names)


def _without_gaps(labels: noise.Labels) -> noise.Labels:
    """Number the nuclei anew: one that is gone would have no area, of which any share is seen."""
    there = np.bincount(labels.ravel()) > 0
    there[0] = False
    return np.asarray((np.cumsum(there) * there).astype(np.int32)[labels])


@lru_cache(CACHED_SLIDES)
def _regions_by_id(cells: CellStore, slide_id: str, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """For each id of a slide the region of the nucleus's class, from 1; 0 where it has none."""
    nuclei = cells.nuclei(slide_id, ["id", "class"])
    ids = nuclei["id"].to_numpy()
    place = pc.fill_null(pc.index_in(nuclei["class"], pa.array(names, pa.string())), -1)
    regions = np.zeros(ids.max(initial=0) + 1, np.uint8)
    regions[ids] = place.to_numpy() + 1
    return regions
