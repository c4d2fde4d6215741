"""A store with cells, maps, an audit and features, and the viewer that shows them."""

import numpy as np
import pyarrow as pa
import pytest

from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.files import write_json
from dirl.features.feature_files import ROWS_DIR, write_rows
from dirl.store.dataset import TileStore
from dirl.store.index import write_parquet
from tests.audit_cases import encoder, findings, summary
from tests.viewer_cases import map_values, measured, serving, write_map


@pytest.fixture(scope="session")
def maps(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    made = [write_map(folder / name, name, map_values(i)) for i, name in enumerate(("first", "second"))]
    return [*made, write_map(folder / "earlier", "first", map_values(2), block=0)]


@pytest.fixture(scope="session")
def audit(small_store, tmp_path_factory):
    """An audit of two encoders of two blocks and two heads; the last tile was left out."""
    from dirl.audit.table import SCHEMA

    store = TileStore.open(small_store)
    folder = tmp_path_factory.mktemp("audit") / "audit"
    card = claim(folder, new_card("audit", {}, {"store": store.digest}))
    rows = [
        dict.fromkeys(SCHEMA.names, 0.25)
        | {
            "encoder": encoder,
            "tile_id": tile_id,
            "slide_id": "slide",
            "block": block,
            "head": head,
            "entropy": measured(i, block, head),
        }
        for encoder in ("one", "<b>two</b>")
        for i, tile_id in enumerate(store.tile_ids.tolist()[:-1])
        for block in range(2)
        for head in (0, 1, -1)
    ]
    write_parquet(folder / "measures.parquet", pa.Table.from_pylist(rows, SCHEMA))
    found = findings(encoder("one", 0.5), encoder("<b>two</b>", 0.5))
    found["encoders"] = found["encoders"][:2]
    write_json(folder / "summary.json", summary(found).to_json())
    finish(folder, card, {})
    return folder


@pytest.fixture(scope="session")
def features(small_store, tmp_path_factory):
    """Features that lie on a circle, tile after tile."""
    store = TileStore.open(small_store)
    angle = np.arange(len(store)) * 0.05
    folder = tmp_path_factory.mktemp("features")
    rows = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)
    write_rows(folder / ROWS_DIR / "slide.h5", {"features": rows, "tile_id": store.tile_ids})
    return folder


@pytest.fixture(scope="session")
def viewer(small_store, maps, audit, features):
    with serving(small_store, maps=maps, audit=audit, features=features) as running:
        yield running
