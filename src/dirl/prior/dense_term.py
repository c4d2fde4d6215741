"""The dense term of a run: one object that answers every question about it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from dirl.config import DenseConfig
from dirl.core.errors import ConfigError
from dirl.encoders.base import EncoderOutput
from dirl.prior import region_sets
from dirl.prior.extraction import ClassToken, Extraction, LastBlock, OwnBlock, Pool
from dirl.prior.matching import ByName, ByNameInOverlap, ByNucleus, Matching
from dirl.prior.metrics import PriorMetrics
from dirl.prior.moved import move
from dirl.prior.region_sets import MAX_REGIONS
from dirl.prior.source import Boxes, CellRegions, Damage, RegionSource, mean_area_um2, shuffled_partners
from dirl.prior.tokens import Disentangle, RegionTokens, as_one_region
from dirl.store.dataset import TileStore
from dirl.views.batch import ViewBatch

EXTRACTIONS: dict[str, Extraction] = {"pool": Pool(), "cls": LastBlock(), "disentangle": OwnBlock()}


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
    against_regions
        Whether other regions are negatives too, and not only the same region of other tiles.
    """

    weight: float
    source: RegionSource
    matching: Matching
    extraction: Extraction
    against_regions: bool = False

    @property
    def kept_apart(self) -> int:
        """How many regions the objective tells apart: each has its own negatives, centre or variance."""
        return 1 if self._one_region else self.source.count

    @property
    def _one_region(self) -> bool:
        return self.against_regions or self.matching.interchangeable

    def make_block(self, width: int, heads: int) -> Disentangle | None:
        """Make the block that is trained to extract regions; None if the extraction needs none."""
        queries = 1 if self.matching.interchangeable else self.source.count
        return self.extraction.make_block(width, heads, queries)

    def coverage(
        self, ids: Tensor, views: Sequence[ViewBatch], samples: NDArray[np.int64], patch_px: int
    ) -> list[Tensor]:
        """Return ``(v, b, r, gh, gw)`` for each group of views, see `dirl.prior.matching.ByName.coverage`."""
        return self.matching.coverage(ids, views, samples, patch_px)

    def for_encoder(self, coverage: Tensor) -> Tensor | None:
        """Return the coverage if the encoder makes the region tokens; else None."""
        return coverage if self.extraction.from_last_block else None

    def extract(
        self, outputs: Sequence[EncoderOutput], coverage: Sequence[Tensor], block: nn.Module | None
    ) -> list[RegionTokens]:
        """Make the region tokens of each view, of an encoder that has been given `for_encoder`.

        Parameters
        ----------
        outputs
            The encoder's output for each view.
        coverage
            ``(b, r, gh, gw)`` for each view.
        block
            From `make_block`.
        """
        least = self.matching.min_area
        return [
            self.extraction.regions(output, share, least, block)
            for output, share in zip(outputs, coverage, strict=True)
        ]

    def rows(self, regions: Sequence[RegionTokens]) -> list[RegionTokens]:
        """Return what the objective compares, with `kept_apart` regions."""
        return [as_one_region(view) for view in regions] if self._one_region else list(regions)

    def make_metrics(self) -> PriorMetrics:
        """Choose what is logged of the prior. The mean area of nuclei is read from the store."""
        source = self.source
        if isinstance(source, Boxes):
            return PriorMetrics(())
        regions = source.regions
        if not (regions.nuclei and self.matching.area_of_nuclei):
            return PriorMetrics(regions.names, regions.nuclei)
        return PriorMetrics(regions.names, regions.nuclei, True, mean_area_um2(source.tiles, source.cells))


def make_dense_term(dense: DenseConfig, tiles: TileStore, segmenter: str, seed: int) -> DenseTerm | None:
    """Put the dense term of a recipe together; None if its weight is 0.

    Parameters
    ----------
    dense
        Its settings.
    tiles
        The store.
    segmenter
        Name of the cells to use.
    seed
        Key of what is random: the same for a tile in every epoch.

    Raises
    ------
    ConfigError
        If two settings exclude each other.
    StoreError
        If the store lacks these cells, or they lack what the region set needs.
    """
    if not dense.weight:
        return None
    check_dense(dense)
    extraction = EXTRACTIONS[dense.extract]
    side_px = tiles.spec.size_px
    source: RegionSource
    if dense.control in ("one", "twice"):
        # Controls without regions: the plain mean of all patch tokens, or the class token once more.
        extraction = ClassToken() if dense.control == "twice" else Pool()
        source = Boxes(1, side_px)
    elif dense.regions == "grid":
        source = Boxes(dense.grid_side**2, side_px)
    else:
        source = _of_cells(dense, tiles, segmenter, seed)
    matching: Matching = ByName(source.count, dense.min_area)
    if dense.match == "instance":
        matching = ByNucleus(source.count, seed)
    elif dense.match == "overlap" and dense.control not in ("one", "twice"):
        matching = ByNameInOverlap(source.count, dense.min_area)
    return DenseTerm(dense.weight, source, matching, extraction, dense.needs_negatives)


def _of_cells(dense: DenseConfig, tiles: TileStore, segmenter: str, seed: int) -> RegionSource:
    """Regions of nuclei, with the control or the noise of the recipe."""
    cells = tiles.cells(segmenter)
    if dense.match == "instance":
        regions = region_sets.single_nuclei(dense.instances)
    elif dense.control == "tissue-only":
        regions = region_sets.tissue()
    elif dense.regions == "classes":
        regions = region_sets.classes(cells, list(tiles.slides))
    elif dense.regions == "tissue":
        regions = region_sets.rings(dense.ring_um / tiles.spec.mpp)
    else:
        regions = region_sets.cells()
    source = CellRegions(tiles, cells, regions, seed)
    if dense.control == "grid":
        return Boxes(regions.count, tiles.spec.size_px)
    if dense.control == "moved":
        return replace(source, change=move)
    if dense.control == "shuffled":
        return replace(source, partner=shuffled_partners(tiles, seed))
    if dense.noise is None:
        return source
    if dense.noise.kind == "shuffle":
        return replace(source, partner=shuffled_partners(tiles, seed, dense.noise.strength))
    return replace(source, change=Damage(dense.noise))


def check_dense(dense: DenseConfig) -> None:
    """Refuse settings that exclude each other, with the first reason that applies.

    Raises
    ------
    ConfigError
        With the settings.
    """
    match, regions, control, noisy = dense.match, dense.regions, dense.control, dense.noise is not None
    of_cells = control in ("shuffled", "moved", "grid", "tissue-only")
    conflicts = {
        f"match: instance follows single nuclei, so it goes with regions: cells, not {regions}": (
            match == "instance" and regions != "cells"
        ),
        f"match: instance follows single nuclei, which control: {control} does not have": (
            match == "instance" and control not in (None, "shuffled", "moved")
        ),
        f"regions: grid has no cells for control: {control} to change": regions == "grid" and of_cells,
        "regions: grid has no cells for noise to damage": regions == "grid" and noisy,
        f"noise damages a tile's true cells, which control: {control} does not have": (
            noisy and control is not None
        ),
    }
    for reason in (reason for reason, applies in conflicts.items() if applies):
        raise ConfigError(reason, where="dense", remedy="remove one of the two settings")
    if regions == "grid" and dense.grid_side**2 > MAX_REGIONS:
        raise ConfigError(
            f"more than {MAX_REGIONS} regions", where="dense.grid_side", remedy="make it smaller"
        )
    if dense.noise is not None and dense.noise.kind in ("drop", "shuffle") and dense.noise.strength > 1:
        raise ConfigError(
            f"a share of {dense.noise.strength:g} to {dense.noise.kind}",
            where="dense.noise.strength",
            remedy="use a share of at most 1",
        )
