"""The plan of a map, made and checked before anything is written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import MapConfig
from dirl.core.errors import ConfigError, EncoderError
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.maps.attend import TileReader, as_images
from dirl.maps.grid import choose_tiles, make_grid, tissue_tokens
from dirl.maps.scaling import PATCH_MASS, UNIFORM, read_tile_weights, weights_of
from dirl.maps.summary import MappedEncoder
from dirl.slides.base import Slide, check_resolution
from dirl.slides.tissue import find_tissue, warn_all_tissue

TILE_PX = 224


@dataclass(frozen=True)
class MapPlan:
    """The slide, the encoder and the tiles of a map.

    Attributes
    ----------
    tissue : ndarray of the map's shape, bool
        Tokens on tissue.
    facts
        Name, blocks, heads and query of the encoder, as in the summary.
    block
        Number of the mapped block, from 0.
    weights : ndarray of shape (t,), or None
        Weights of the tiles, if a file gives them.
    """

    encoder: LoadedEncoder
    reader: TileReader
    tissue: NDArray[np.bool_]
    facts: MappedEncoder
    block: int
    weights: NDArray[np.float64] | None

    @property
    def channels(self) -> list[str]:
        """Names of the channels."""
        heads = range(self.facts.heads if self.reader.config.heads == "each" else 0)
        return ["mean of heads", *(f"head {head}" for head in heads)]


def plan_map(encoder: LoadedEncoder, slide: Slide, config: MapConfig) -> MapPlan:
    """Plan a map, and check everything that can be wrong with it; see `dirl.map_slide` for its errors."""
    info = slide.info
    check_resolution(info, config.mpp, allow_upsample=config.allow_upsample)
    tile_px = _tile_px(config, encoder)
    side, _ = encoder.token_grid(tile_px)
    grid = make_grid(info, tile_px, config.mpp, config.overlap, side)
    found = find_tissue(slide)
    warn_all_tissue([(info.slide_id, found.white, found.fraction)])
    tissue = tissue_tokens(grid, found)
    tiles = choose_tiles(grid, tissue, config.min_tissue, info.path)
    reader = TileReader(slide, grid, tiles, config)
    weights = None
    if config.between not in (UNIFORM, PATCH_MASS):
        where = f"--between {config.between}"
        weights = weights_of(tiles, grid, read_tile_weights(Path(config.between), info.slide_id), where)
    facts = _try_encoder(encoder, reader)
    if not -facts.blocks <= config.block < facts.blocks:
        remedy = f"choose 0 to {facts.blocks - 1}, or -1 for the last"
        reason = f"{encoder.name} has {facts.blocks} blocks"
        raise ConfigError(reason, where=f"--block {config.block}", remedy=remedy)
    return MapPlan(encoder, reader, tissue, facts, config.block % facts.blocks, weights)


def _tile_px(config: MapConfig, encoder: LoadedEncoder) -> int:
    """Side of a tile, a whole number of patches where the encoder takes any size."""
    patch = encoder.patch_px if encoder.input_px is None else 1
    size = config.size_px or max(1, TILE_PX // patch) * patch
    if size % patch:
        reason = f"tiles of {size} px are no whole number of patches of {patch} px"
        remedy = f"pass --size {max(1, size // patch) * patch}"
        raise EncoderError(reason, where=encoder.name, remedy=remedy)
    return size


def _try_encoder(encoder: LoadedEncoder, reader: TileReader) -> MappedEncoder:
    """Run an encoder on the first tile, and check its token grid."""
    rows = attention_rows(encoder.model, preprocess(encoder, as_images([reader(0)])))
    if rows.grid != (reader.grid.tile_tokens,) * 2:
        reason = f"has {rows.grid[0]} × {rows.grid[1]} tokens on a tile, not {reader.grid.tile_tokens} a side"
        raise EncoderError(reason, where=encoder.name, remedy="choose a --size that its patches divide")
    return MappedEncoder(
        name=encoder.name,
        spec=encoder.spec,
        digest=encoder.digest,
        blocks=rows.patches.shape[1],
        heads=rows.patches.shape[2],
        query=rows.query,
    )
