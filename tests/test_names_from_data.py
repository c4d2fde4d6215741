"""No name that data brings leads out of its folder, whoever reads or writes it."""

import json
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dirl.cells.export import cells_export
from dirl.cells.quality.statistics import statistics_file
from dirl.config import TileConfig
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import DirlError, StoreError
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.store.index import check_shards
from dirl.store.shards import ShardReader
from dirl.viewer.maps import SlideMap
from tests.viewer_cases import map_values, write_map

HOSTILE = ["../../x", "../x", "/tmp/x", "a\0b", "n" * 300, "..", "", "\ud800", "C:\\x"]
NAMES = pytest.mark.parametrize("name", HOSTILE, ids=ascii)


@pytest.fixture
def store(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "in" / "store")
    return tmp_path / "in" / "store"


@pytest.fixture
def tiles_with_cells(tmp_path):
    """One ready-made tile, whose name becomes that of a file, and its cells."""
    (tmp_path / "in" / "tiles" / "a").mkdir(parents=True)
    Image.fromarray(np.full((32, 32, 3), 150, np.uint8)).save(tmp_path / "in" / "tiles" / "a" / "t.png")
    made = tile(
        [tmp_path / "in" / "tiles"], tmp_path / "in" / "ready", TileConfig(mpp_override=1.0), quiet=True
    )
    labels = np.zeros((32, 32), np.int32)
    labels[4:9, 4:9] = 1
    nuclei = {"id": [1], "x": [6.5], "y": [6.5], "area_um2": [25.0], "touches_border": [False]}
    card = claim(cells_dir(made.path, "own"), new_card("cells", {}))
    write_cells(made.path, "own", "a", [(made.tile_ids[0], labels, np.minimum(labels, 1))], nuclei)
    merge_cells(made.path, "own")
    finish(cells_dir(made.path, "own"), card, {})
    return made.path


@pytest.fixture(autouse=True)
def nothing_is_written_outside(tmp_path):
    """Whatever a test does, it leaves nothing beside the folder that it works in."""
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"in"}


def renamed(path, column, name):
    """Write a table anew with another value in a column."""
    table = pq.read_table(path)
    values = [name] * len(table)
    place = table.column_names.index(column)
    pq.write_table(table.set_column(place, table.field(column), [values]), path)


@NAMES
def test_shards(store, name):
    with pytest.raises(StoreError):
        ShardReader(store, "tile").read(name, 0, 1, 0)
    if "\ud800" in name:  # no table can hold it
        return
    renamed(store / "index.parquet", "shard", name)
    with pytest.raises(StoreError):
        check_shards(store, pq.read_table(store / "index.parquet"))
    with pytest.raises(StoreError):
        TileStore.open(store)


@NAMES
def test_shards_of_cells(store, name):
    if "\ud800" in name:
        return
    renamed(store / "cells" / "hematoxylin" / "index.parquet", "shard", name)
    with pytest.raises(StoreError):
        TileStore.open(store).cells("hematoxylin")


@NAMES
def test_slides(store, name):
    records = json.loads((store / "slides.json").read_text())
    records[0]["slide_id"] = name
    (store / "slides.json").write_text(json.dumps(records))
    if "\ud800" not in name:
        renamed(store / "index.parquet", "slide_id", name)
    with pytest.raises(StoreError):
        TileStore.open(store)


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.strip(".")], ids=ascii)
def test_cells(store, name):
    nothing: dict[str, list[Any]] = {key: [] for key in ("id", "x", "y", "area_um2", "touches_border")}
    held = TileStore.open(store).cells("hematoxylin")
    for use in (
        lambda: write_cells(store, "own", name, [], nothing),
        lambda: held.nuclei(name),
        lambda: statistics_file(store, "own", name),
    ):
        with pytest.raises(StoreError):
            use()


@NAMES
def test_maps(tmp_path, name):
    folder = write_map(tmp_path / "in" / "map", "map", map_values(0))
    shutil.copy(folder / "attention.ome.tif", tmp_path / "in" / "x")
    shutil.copy(folder / "regions.geojson", tmp_path / "in" / "y")
    for key in ("float", "regions"):
        summary = json.loads((folder / "summary.json").read_text())
        summary["files"][key] = name.replace("x", "y") if key == "regions" else name
        (folder / "summary.json").write_text(json.dumps(summary))
        with pytest.raises(DirlError):
            SlideMap(folder)


@NAMES
def test_exported_outlines(tiles_with_cells, tmp_path, name):
    if "\ud800" in name or not name.strip("."):
        return
    renamed(tiles_with_cells / "index.parquet", "tile_id", name)
    renamed(tiles_with_cells / "cells" / "own" / "index.parquet", "tile_id", name)
    with pytest.raises(DirlError):
        cells_export(tiles_with_cells, tmp_path / "in" / "out", cells="own", quiet=True)
