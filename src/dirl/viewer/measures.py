"""Reading measures of tiles that `dirl audit` wrote."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dirl.audit.summary import AuditSummary
from dirl.core.boundary import parsing
from dirl.core.card import read_card
from dirl.core.checked import checked
from dirl.core.errors import StoreError
from dirl.core.results import read_as
from dirl.store.dataset import TileStore

REMEDY = "make it again: `dirl audit --overwrite`"
FILE = "measures.parquet"
PER_HEAD = -2
"""The mean of the heads' values. -1, as in the file, means that the heads' attention was averaged first."""
# Measures in the panel of a tile.
LISTED = ("entropy", "effective_share", "gini", "top5_mass", "patch_mass", "components50")
REGIONS = ("nuclei", "rest", "glass")


class AuditMeasures:
    """Measures of the audited tiles of a store, by encoder, block and head.

    `encoders` are the audited encoders and controls. A directory that is not a finished audit of the store
    raises a `StoreError`.
    """

    def __init__(self, path: Path, store: TileStore) -> None:
        card = read_card(path, "audit")
        if card.finished is None:
            raise StoreError("unfinished", where=path, remedy="run the same `dirl audit` again")
        if card.inputs.get("store") != store.digest:
            raise StoreError(
                f"an audit of other tiles than those of {store.path}",
                where=path,
                remedy="give the audited store",
            )
        self.path = path
        with parsing(path, remedy=REMEDY):
            self.encoders = read_as(path, AuditSummary).summary.encoders
            if not self.encoders:
                raise ValueError("it has no encoders")
        with parsing(path / FILE, remedy=REMEDY):
            self.columns = pq.read_schema(checked(path, FILE, card)).names
        self._tile_ids = store.tile_ids
        self._number = {tile_id: i for i, tile_id in enumerate(self._tile_ids.tolist())}
        # The page requests the same column for one slide after the other.
        self._column = lru_cache(16)(self._read_column)

    def values(
        self, rows: NDArray[np.int64], encoder: int, block: int, head: int, name: str
    ) -> NDArray[np.float32]:
        """A column of `dirl.audit.table.MEASURES` for tiles `rows` of the store, (t,); NaN if not audited.

        `encoder`, `block` and `head` count from 0. Head -1 is the average of the heads' attention, `PER_HEAD`
        the mean of the heads' values.
        """
        return self._column(self.encoders[encoder].name, block, head, name)[rows]

    def of_tile(self, i: int) -> list[dict[str, Any]]:
        """Values for the panel of a tile: the last block of every encoder, as the mean over heads.

        Each has ``name``, ``kind``, the measures of `LISTED`, and log2 enrichment by region. A tile that was
        not audited gives an empty list.
        """
        areas = [f"area_{region}" for region in REGIONS]
        shares = [f"attention_{region}" for region in REGIONS]
        columns = ["encoder", "block", "head", *LISTED, *shares, *areas]
        table = self._read(columns, pc.field("tile_id") == str(self._tile_ids[i]))
        encoders, blocks, heads = (np.array(table[name].to_pylist()) for name in columns[:3])
        found = []
        for one in self.encoders:
            chosen = np.flatnonzero((encoders == one.name) & (blocks == one.blocks - 1) & (heads >= 0))
            if not len(chosen):
                continue
            means = {name: float(np.mean(table[name].to_numpy()[chosen])) for name in columns[3:]}
            enrichment = {
                region: float(np.log2(means[share] / means[area]))
                if means[share] > 0 and means[area] > 0.01
                else None
                for region, share, area in zip(REGIONS, shares, areas, strict=True)
            }
            listed = {name: None if np.isnan(means[name]) else means[name] for name in LISTED}
            found.append({"name": one.name, "kind": one.kind, "measures": listed, "enrichment": enrichment})
        return found

    def _read_column(self, encoder: str, block: int, head: int, name: str) -> NDArray[np.float32]:
        where = (pc.field("encoder") == encoder) & (pc.field("block") == block)
        where &= pc.field("head") >= 0 if head == PER_HEAD else pc.field("head") == head
        table = self._read(["tile_id", name], where)
        tiles = np.array([self._number[tile_id] for tile_id in table["tile_id"].to_pylist()], np.int64)
        count = np.bincount(tiles, minlength=len(self._number))
        total = np.bincount(tiles, table[name].to_numpy().astype(np.float64), len(self._number))
        with np.errstate(invalid="ignore"):
            return (total / count).astype(np.float32)

    def _read(self, columns: list[str], where: pc.Expression) -> pa.Table:
        with parsing(self.path / FILE, remedy=REMEDY):
            table = pq.read_table(self.path / FILE, columns=columns, filters=where)
            table.validate(full=True)
            return table
