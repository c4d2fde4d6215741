"""Scaling of attention within a tile and between tiles. A softmax alone is comparable only in its tile."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial import cKDTree
from torch import Tensor, from_numpy

from dirl.config.stages import WithinTile
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.core.progress import say
from dirl.maps.grid import MapGrid, MapTiles
from dirl.tables.match import forms
from dirl.tables.read import SLIDE, Row, parse_number, read_csv

UNITS = {
    "softmax": "attention × patch tokens",
    "patches": "attention ÷ uniform",
    "tissue": "attention ÷ uniform over tissue",
    "rank": "rank in the tile",
}
UNIFORM, PATCH_MASS = "uniform", "patch-mass"
COLUMNS = ("x", "y", "weight")
REMEDY = "columns x, y (a tile's top-left corner, level-0 px) and weight; with several slides, slide_id"


def within_tile(rows: Tensor, tissue: Tensor, scale: WithinTile) -> Tensor:
    """Scale the attention rows of tiles, each by itself.

    Parameters
    ----------
    rows : Tensor of shape (t, c, gh, gw)
        Softmax values of the patch tokens. The rest to 1 is on prefix tokens.
    tissue : Tensor of shape (t, gh, gw), bool
        Tokens that are tissue.
    scale
        ``softmax``: times the number of patch tokens. ``patches``: also divided by their sum, so that uniform
        attention is 1. ``tissue``: the same over the tile's tissue tokens only. ``rank``: the share of the
        tile's tokens that have less, in 0..1, ties halved.

    Returns
    -------
    Tensor of shape (t, c, gh, gw), float32
    """
    values = rows.float().cpu()
    tokens = values.shape[-2] * values.shape[-1]
    if scale == "softmax":
        return values * tokens
    if scale == "rank":
        ranks = stats.rankdata(values.flatten(2).numpy(), axis=-1)
        return from_numpy(((ranks - 0.5) / tokens).astype(np.float32)).view_as(values)
    counted = tissue.to(values)[:, None] if scale == "tissue" else values.new_ones(())
    mass = (values * counted).sum((-2, -1), keepdim=True).clamp(min=1e-30)
    count = counted.expand_as(values).sum((-2, -1), keepdim=True)
    return values / mass * count


def read_tile_weights(path: Path, slide_id: str) -> NDArray[np.float64]:
    """Read x, y and weight of tiles, (t, 3), from a CSV or Parquet file.

    The weight can be a slide model's attention. If the file names slides, only tiles of this slide are read.
    A missing column or tile, or a wrong weight, raises a `ConfigError`.
    """
    where = f"--between {path}"
    if not path.is_file():
        raise ConfigError("no such file", where=where, remedy="name uniform, patch-mass or a file")
    if path.suffix == ".parquet":
        columns = _from_parquet(path, slide_id, where)
    else:
        columns = _from_csv(path, slide_id, where)
    weights = np.stack(columns, axis=1)
    if not len(weights):
        raise ConfigError(f"holds no tile of {slide_id}", where=where, remedy=REMEDY)
    if not np.isfinite(weights).all() or weights[:, 2].min() < 0 or weights[:, 2].max() == 0:
        reason = "weights must be finite, not negative and not all 0"
        raise ConfigError(reason, where=where, remedy=REMEDY)
    return weights


def _from_parquet(path: Path, slide_id: str, where: str) -> list[NDArray[np.float64]]:
    with parsing(where, remedy=REMEDY, kind=ConfigError, what="not a table of numbers"):
        table = pq.read_table(path)
        if missing := [name for name in COLUMNS if name not in table.column_names]:
            raise ConfigError(f"lacks {_columns(missing)}", where=where, remedy=REMEDY)
        if "slide_id" in table.column_names:
            table = table.filter(pc.equal(table["slide_id"].cast(pa.string()), slide_id))
        return [table[name].cast(pa.float64()).to_numpy() for name in COLUMNS]


def _from_csv(path: Path, slide_id: str, where: str) -> list[NDArray[np.float64]]:
    table = read_csv(path, where)
    names = {name: table.find((name,)) for name in COLUMNS}
    if missing := [name for name, column in names.items() if column is None]:
        raise ConfigError(f"lacks {_columns(missing)}", where=where, remedy=REMEDY)
    rows: Sequence[Row] = table.rows
    slides = table.find_all(SLIDE)
    for column in slides:
        # The name as it is written, or without folder and ending.
        rows = [row for row in table.rows if row[column] == slide_id]
        rows = rows or [row for row in table.rows if forms(row[column])[-1] == forms(slide_id)[-1]]
        if rows:
            break
    if unused := table.unused([name for name in (*names.values(), *slides[:1]) if name]):
        say(f"{path}: columns that are not used: {', '.join(unused)}")
    with parsing(where, remedy=REMEDY, kind=ConfigError, what="not a table of numbers"):
        return [
            np.array([parse_number(row[name] or "nan") for row in rows]) for name in names.values() if name
        ]


def weights_of(
    tiles: MapTiles, grid: MapGrid, given: NDArray[np.float64], where: object
) -> NDArray[np.float64]:
    """Weights of a map's tiles, (t,), with mean 1, from the given tiles that overlap each.

    `given` has shape (k, 3): x and y in level-0 pixels, and the weight. These tiles, such as those of a slide
    model, may lie elsewhere, but have the same side. A weight is their mean, weighted by the shared area. It
    raises a `ConfigError` if a tile overlaps no given tile, or if all weights are 0.
    """
    corners = tiles.corners(grid)
    side = grid.tile_tokens * grid.token_level0_px
    # At least half a token of overlap: tiles that touch overlap by a rounding error.
    reach = side - grid.token_level0_px / 2
    near = cKDTree(given[:, :2]).query_ball_point(corners, reach, p=np.inf)
    counts = np.array([len(found) for found in near])
    if missed := int((counts == 0).sum()):
        first = int((counts == 0).argmax())
        fullest = float(tiles.tissue_fraction[counts == 0].max())
        raise ConfigError(
            f"misses {missed} of {len(tiles)} tiles, first at x {corners[first, 0]:.0f}, "
            f"y {corners[first, 1]:.0f}",
            where=where,
            remedy=f"add them, or leave out what holds so little tissue with --min-tissue "
            f"{min(1.0, fullest + 0.01):.2f}",
        )
    which, found = np.repeat(np.arange(len(tiles)), counts), np.concatenate(near).astype(int)
    shared = np.prod(side - np.abs(given[found, :2] - corners[which]), axis=1)
    weights = np.bincount(which, shared * given[found, 2]) / np.bincount(which, shared)
    if not weights.any():
        raise ConfigError("every tile of the map has weight 0", where=where, remedy=REMEDY)
    return np.asarray(weights / weights.mean())


def _columns(names: Sequence[str]) -> str:
    return f"the column{'s' if len(names) > 1 else ''} {', '.join(names)}"
