"""The dense term of a run, `DenseTerm`: its regions, their matching, and how their tokens are made.

The dense loss is not here: it is `dirl.objectives.base.Objective.dense_loss`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dirl.config import DenseConfig
from dirl.config.pretrain import Control, Extract, Match, Regions
from dirl.encoders.base import EncoderOutput
from dirl.prior import regions as region_sets
from dirl.prior.matching import Instance, Matching, Overlap, Semantic
from dirl.prior.metrics import PriorMetrics
from dirl.prior.noise import move
from dirl.prior.regions import RegionSet
from dirl.prior.source import (
    Boxes,
    CellRegions,
    Colour,
    Damage,
    RegionSource,
    mean_area_um2,
    shuffled_partners,
)
from dirl.prior.tokens import (
    ClsQuery,
    Disentangle,
    Disentangled,
    Extraction,
    Pool,
    RegionTokens,
    Twice,
    merge_regions,
)
from dirl.store.dataset import CellStore, TileStore
from dirl.views.batch import ViewBatch

REGIONS: dict[Regions | Literal["tissue-only"], Callable[[DenseConfig, TileStore, CellStore], RegionSet]] = {
    "cells": lambda dense, tiles, cells: region_sets.cells(),
    "classes": lambda dense, tiles, cells: region_sets.classes(cells, list(tiles.slides)),
    "tissue": lambda dense, tiles, cells: region_sets.tissue_rings(dense.ring_um / tiles.spec.mpp),
    "tissue-only": lambda dense, tiles, cells: region_sets.all_tissue(),  # a control
}
EXTRACTIONS: dict[Extract, Extraction] = {"pool": Pool(), "cls": ClsQuery(), "disentangle": Disentangled()}
MATCHINGS: dict[Match, Callable[[DenseConfig, int, int], Matching]] = {
    "semantic": lambda dense, count, seed: Semantic(count, dense.min_area),
    "overlap": lambda dense, count, seed: Overlap(count, dense.min_area),
    "instance": lambda dense, count, seed: Instance(count, seed),
}
# `one`: mean of all patch tokens. `twice`: a second head on the class token.
CONTROLS_WITHOUT_REGIONS: dict[Control, Extraction] = {"one": Pool(), "twice": Twice()}
CONTROLS_OF_CELLS: dict[Control, Callable[[CellRegions], RegionSource]] = {
    "shuffled": lambda own: replace(own, partner=shuffled_partners(own.tiles, own.seed)),
    "moved": lambda own: replace(own, change=move),
    "grid": lambda own: Boxes(region_sets.grid_shape(own.count), own.tiles.spec.size_px),
    "matched-grid": lambda own: Boxes((2, 1), own.tiles.spec.size_px),
}


@dataclass(frozen=True)
class DenseTerm:
    """The dense term, put together from a recipe's ``dense`` section by `make_dense_term`.

    Attributes
    ----------
    weight
        λ, above 0.
    source
        Which regions a tile has.
    matching
        Which regions of two views correspond.
    extraction
        How region tokens are made.
    merged
        Whether the regions of all tiles are rows of one region (``negatives: regions``): each is a negative
        of all others.
    half_heads
        Whether only the first half of the heads makes the rows of regions.
    """

    weight: float
    source: RegionSource
    matching: Matching
    extraction: Extraction
    merged: bool = False
    half_heads: bool = False

    @property
    def loss_regions(self) -> int:
        """Number of regions with statistics of their own in the loss; 1 if all are merged."""
        return 1 if self.merged else self.source.count

    def make_block(self, width: int, heads: int) -> Disentangle | None:
        """Make the block that is trained to extract regions; None if the extraction needs none."""
        queries = 1 if self.matching.interchangeable else self.source.count
        return self.extraction.make_block(width, heads, queries)

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return ``(v, b, r, gh, gw)`` for each group of views, see `dirl.prior.matching`."""
        return self.matching.coverage(ids, views, samples, patch_px)

    def for_encoder(self, coverage: Tensor) -> Tensor | None:
        """Coverage for the encoder (``extract: cls``); None for other extractions."""
        return coverage if self.extraction.from_last_block else None

    def extract(
        self, outputs: Sequence[EncoderOutput], coverage: Sequence[Tensor], block: nn.Module | None
    ) -> list[RegionTokens]:
        """Make the region tokens of each view, whose encoder got the result of `for_encoder`.

        There is coverage ``(b, r, gh, gw)`` for each view; the block is that of `make_block`.
        """
        least = self.matching.min_area
        return [
            self.extraction.regions(output, share, least, block)
            for output, share in zip(outputs, coverage, strict=True)
        ]

    def rows(self, regions: Sequence[RegionTokens]) -> list[RegionTokens]:
        """Return what the objective compares, with `loss_regions` regions."""
        return [merge_regions(view) for view in regions] if self.merged else list(regions)

    def make_metrics(self) -> PriorMetrics:
        """Choose what is logged of the prior. The mean area of nuclei is read from the store."""
        source = self.source
        if isinstance(source, Boxes):
            return PriorMetrics(())
        if isinstance(source, Colour):
            return PriorMetrics(source.names, 0)
        regions = source.regions
        if not (regions.nuclei and self.matching.area_of_nuclei):
            return PriorMetrics(regions.names, regions.nuclei)
        return PriorMetrics(regions.names, regions.nuclei, True, mean_area_um2(source.tiles, source.cells))


def make_dense_term(dense: DenseConfig, tiles: TileStore, cells: str, seed: int) -> DenseTerm | None:
    """Put the dense term of a recipe together; None if its weight is 0.

    `cells` is the name of the cells in the store. What is random is the same for a tile in every epoch.

    Raises
    ------
    StoreError
        If the store lacks these cells, or they lack what the region set needs.
    """
    if not dense.weight:
        return None
    across_regions = dense.negatives == "regions"
    if dense.control in CONTROLS_WITHOUT_REGIONS:
        source: RegionSource = Boxes((1,), tiles.spec.size_px)
        extraction = CONTROLS_WITHOUT_REGIONS[dense.control]
        return DenseTerm(dense.weight, source, Semantic(1, dense.min_area), extraction, across_regions)
    if dense.regions == "grid":
        source = Boxes((dense.grid_side,) * dense.grid_side, tiles.spec.size_px)
    elif dense.regions == "colour":
        source = Colour(tiles)
    else:
        source = _of_cells(dense, tiles, tiles.cells(cells), seed)
    matching = MATCHINGS[dense.match](dense, source.count, seed)
    merged = across_regions or matching.interchangeable
    extraction = EXTRACTIONS[dense.extract]
    return DenseTerm(dense.weight, source, matching, extraction, merged, dense.heads == "half")


def _of_cells(dense: DenseConfig, tiles: TileStore, cells: CellStore, seed: int) -> RegionSource:
    """Regions of nuclei, with the control or the noise of the recipe."""
    if dense.match == "instance":
        regions = region_sets.single_nuclei(dense.instances)
    else:
        make = REGIONS[dense.control if dense.control == "tissue-only" else dense.regions]
        regions = make(dense, tiles, cells)
    source = CellRegions(tiles, cells, regions, seed)
    if dense.control in CONTROLS_OF_CELLS:
        return CONTROLS_OF_CELLS[dense.control](source)
    if dense.noise is None:
        return source
    if dense.noise.kind == "shuffle":
        return replace(source, partner=shuffled_partners(tiles, seed, dense.noise.strength))
    return replace(source, change=Damage(dense.noise))
