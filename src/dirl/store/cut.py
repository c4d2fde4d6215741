"""An open slide with its tissue and its tiles."""

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from dirl.config import TileConfig
from dirl.slides.base import Slide
from dirl.slides.discovery import SlideInput, source_digest
from dirl.slides.image import MAX_PIXELS
from dirl.slides.reading import open_slide
from dirl.slides.tiling import Tile, TileSpec, around_the_middle, drawn_from_all, plan_tiles, read_tile
from dirl.slides.tissue import TissueMask, find_tissue
from dirl.store.index import SlideRecord


@dataclass(frozen=True)
class CutSlide:
    """An open slide, its tissue, its tiles and their settings, and its record in a store.

    `allow_upsample` tells whether its tiles may be finer than the slide.
    """

    slide: Slide
    tissue: TissueMask
    tiles: list[Tile]
    spec: TileSpec
    record: SlideRecord
    allow_upsample: bool

    def image(self, i: int) -> NDArray[np.uint8]:
        """Pixels of the i-th tile, `uint8 (size_px, size_px, 3)`; thread-safe."""
        return read_tile(self.slide, self.tiles[i], self.spec, allow_upsample=self.allow_upsample)

    def close(self) -> None:
        """Close the slide."""
        self.slide.close()


def reopen_slide(record: SlideRecord) -> Slide:
    """Open a slide of a store again, with the resolution that it was tiled with, at any size."""
    limit = max(MAX_PIXELS, prod(record.size_px))
    return open_slide(record.path, record.mpp, record.slide_id, max_pixels=limit)


def cut_slide(item: SlideInput, config: TileConfig) -> CutSlide:
    """Open a slide, find its tissue, and plan its tiles.

    A `SlideError` tells that it cannot be read, has no resolution, is too coarse, or has no tissue.
    """
    spec = TileSpec(config.size_px, config.mpp, config.stride_px or config.size_px, config.min_tissue)
    mpp = item.from_table.mpp or config.mpp_override
    slide = open_slide(item.path, mpp, item.slide_id, max_pixels=config.max_pixels)
    try:
        info = slide.info
        tissue = find_tissue(slide)
        tiles = plan_tiles(slide, tissue, spec, allow_upsample=config.allow_upsample)
    except BaseException:
        slide.close()
        raise
    if config.max_tiles is not None:
        keep = around_the_middle if config.max_tiles_from == "middle" else drawn_from_all
        tiles = keep(tiles, config.max_tiles)
    record = SlideRecord(
        kind="slide",
        slide_id=info.slide_id,
        path=info.path,
        patient_id=item.from_table.patient_id or info.patient_id,
        size_px=info.size_px,
        mpp=info.mpp,
        level_downsamples=info.level_downsamples,
        white=tissue.white,
        tissue_fraction=tissue.fraction,
        tiles=len(tiles),
        source=source_digest(item),
        centre=item.from_table.centre or info.centre,
        bounds=info.bounds,
    )
    return CutSlide(slide, tissue, tiles, spec, record, config.allow_upsample)
