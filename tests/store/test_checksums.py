"""No changed byte of a tile, of its labels or of its regions is read as if it were right."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dirl.core.card import note_change
from dirl.core.errors import StoreError
from dirl.store.cells_writer import cells_dir
from dirl.store.dataset import TileStore
from dirl.store.index import INDEX, TILES_SCHEMA, read_parquet


@pytest.fixture(scope="module")
def copied(small_store, tmp_path_factory):
    """A copy that tests may damage, and its tar files whole."""
    folder = tmp_path_factory.mktemp("copied") / "store"
    shutil.copytree(small_store, folder)
    return folder, {path: path.read_bytes() for path in folder.rglob("*.tar")}


def members(folder):
    """File, offset and length of everything that a reader can ask for, with the reader."""
    store = TileStore.open(folder)
    cells = store.cells("hematoxylin")
    rows = cells_dir(folder, "hematoxylin") / INDEX
    found: list[tuple[Path, Any, str, Callable[[int], NDArray[Any]]]]
    found = [(store.path, store.index, "", store.image)]
    indexed = pq.read_table(rows)
    order = {name: i for i, name in enumerate(store.index["tile_id"].to_pylist())}
    for prefix, read in (("labels_", cells.labels), ("regions_", cells.regions)):
        found.append((rows.parent, indexed, prefix, read))
    for root, index, prefix, read_tile in found:
        for row in index.to_pylist():
            place = row[f"{prefix}offset"], row[f"{prefix}length"]
            yield root / row["shard"], *place, read_tile, order[row["tile_id"]]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.randoms(use_true_random=False), bit=st.integers(0, 7))
def test_a_flipped_bit_of_any_member_is_refused(copied, which, bit):
    folder, whole = copied
    path, offset, length, read, number = which.choice(list(members(folder)))
    at = offset + which.randrange(length)
    data = bytearray(whole[path])
    data[at] ^= 1 << bit
    path.write_bytes(data)
    try:
        with pytest.raises(StoreError, match="differ from the written ones") as caught:
            read(number)
        stage = "cells" if "cells" in path.parts else "tile"
        assert caught.value.where == path
        assert f"`dirl {stage}` again" in caught.value.remedy
    finally:
        path.write_bytes(whole[path])
    read(number)


def test_an_index_without_checksums_is_of_an_earlier_version(small_store, tmp_path):
    table = pq.read_table(small_store / INDEX).drop_columns(["crc32"])
    pq.write_table(table, tmp_path / "old.parquet")
    with pytest.raises(StoreError, match="lacks values of crc32 — tile again"):
        read_parquet(tmp_path / "old.parquet", "tile again", schema=TILES_SCHEMA)
    folder = tmp_path / "store"
    shutil.copytree(small_store, folder)
    pq.write_table(table, folder / INDEX)
    note_change(folder, INDEX)
    with pytest.raises(StoreError, match=r"not an index of this version.*`dirl tile` again"):
        TileStore.open(folder)
