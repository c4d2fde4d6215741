"""The plan of a map, made and checked before anything is written."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.config import MapConfig
from dirl.core.errors import EncoderError
from dirl.encoders.loading import LoadedEncoder
from dirl.maps.attend import Probe, TileReader, probe
from dirl.maps.grid import make_grid, plan_map, tissue_tokens
from dirl.maps.scaling import PATCH_MASS, UNIFORM, read_weights, weights_of
from dirl.slides.base import Slide, check_resolution
from dirl.slides.tissue import find_tissue, warn_all_tissue

TILE_PX = 224


@dataclass(frozen=True)
class Plan:
    """What is to be mapped, and with what.

    Attributes
    ----------
    encoder, reader
        The encoder, and the reader of the tiles.
    tissue : ndarray of the map's shape, bool
        Tokens that are tissue.
    found
        Blocks and heads of the encoder.
    given : ndarray of shape (t,), or None
        Weights of the tiles, if a file gives them.
    """

    encoder: LoadedEncoder
    reader: TileReader
    tissue: NDArray[np.bool_]
    found: Probe
    given: NDArray[np.float64] | None

    @property
    def names(self) -> list[str]:
        """Names of the channels."""
        heads = range(self.found.heads if self.reader.config.heads == "each" else 0)
        return ["mean of heads", *(f"head {head}" for head in heads)]


def make_plan(encoder: LoadedEncoder, slide: Slide, config: MapConfig) -> Plan:
    """Plan a map, and check everything that can be wrong with it.

    Raises
    ------
    SlideError, EncoderError, ConfigError
        See `dirl.maps.run.map_slide`.
    """
    info = slide.info
    check_resolution(info, config.mpp, allow_upsample=config.allow_upsample)
    tile_px = _tile_px(config, encoder)
    side, _ = encoder.token_grid(tile_px)
    grid = make_grid(info, tile_px, config.mpp, config.overlap, side)
    found = find_tissue(slide)
    warn_all_tissue([(info.slide_id, found.white, found.fraction)])
    tissue = tissue_tokens(grid, found)
    tiles = plan_map(grid, tissue, config.min_tissue, info.path)
    reader = TileReader(slide, grid, tiles, config)
    given = None
    if config.between not in (UNIFORM, PATCH_MASS):
        where = f"--between {config.between}"
        given = weights_of(tiles, grid, read_weights(Path(config.between), info.slide_id), where)
    return Plan(encoder, reader, tissue, probe(encoder, reader), given)


def _tile_px(config: MapConfig, encoder: LoadedEncoder) -> int:
    """Side of a tile, a whole number of patches where the encoder takes any size."""
    patch = encoder.patch_px if encoder.input_px is None else 1
    size = config.size_px or max(1, TILE_PX // patch) * patch
    if size % patch:
        reason = f"tiles of {size} px are no whole number of patches of {patch} px"
        remedy = f"pass --size {max(1, size // patch) * patch}"
        raise EncoderError(reason, where=encoder.name, remedy=remedy)
    return size
