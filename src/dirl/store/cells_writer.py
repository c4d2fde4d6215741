"""Writing the cells of a store: one tar, one index and one table of nuclei per slide and segmenter.

A stage that finds nuclei does, for every slide of the store that `cells_finished` does not name::

    write_cells(store.path, "hematoxylin", slide_id, ((tile_id, labels, regions) for ...), nuclei)

in any order and in as many processes as it likes, and at the end, in one process, ``merge_cells``. Then
`TileStore.cells` opens them. The card, ``cells/<segmenter>/card.json``, is the stage's own to claim and to
finish, with `cells_dir` as its directory.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.core.boundary import inside
from dirl.core.digests import Written, are_sound
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.store.index import INDEX, check_shards, merge, read_table, write_table
from dirl.store.label_codec import encode_labels, encode_regions
from dirl.store.shards import ShardWriter

CELLS_SCHEMA = pa.schema(
    [
        pa.field("tile_id", pa.string(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("labels_offset", pa.int64(), nullable=False),
        pa.field("labels_length", pa.int64(), nullable=False),
        pa.field("labels_crc32", pa.uint32(), nullable=False),
        pa.field("regions_offset", pa.int64(), nullable=False),
        pa.field("regions_length", pa.int64(), nullable=False),
        pa.field("regions_crc32", pa.uint32(), nullable=False),
    ]
)

# x and y: centroid in level-0 pixels; class: null where the segmenter names none; tile_id: null on a slide,
# for ready-made tiles the one that x and y are pixels of.
NUCLEI_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int32(), nullable=False),
        pa.field("x", pa.float32(), nullable=False),
        pa.field("y", pa.float32(), nullable=False),
        pa.field("area_um2", pa.float32(), nullable=False),
        pa.field("class", pa.string()),
        pa.field("touches_border", pa.bool_(), nullable=False),
        pa.field("tile_id", pa.string()),
    ]
)


def cells_dir(store: Path, segmenter: str) -> Path:
    """Folder of a segmenter's cells."""
    return store / "cells" / segmenter


def cells_finished(
    store: Path, segmenter: str, slide_id: str, files: Mapping[str, Written] | None = None
) -> bool:
    """Whether a slide's cells are written and whole, as far as the digests in their card tell."""
    folder = cells_dir(store, segmenter)
    made = [f"{slide_id}{end}" for end in (".parquet", ".nuclei.parquet", ".statistics.json")]
    if not are_sound(folder, [*made, f"pictures/{slide_id}.png"], files or {}):
        return False
    try:
        index = read_table(folder / f"{slide_id}.parquet", "", schema=CELLS_SCHEMA)
        check_shards(folder, index)
    except StoreError:
        return False
    return (folder / f"{slide_id}.nuclei.parquet").exists()


def write_cells(
    store: Path,
    segmenter: str,
    slide_id: str,
    items: Iterable[tuple[str, NDArray[np.integer], NDArray[np.integer]]],
    nuclei: Mapping[str, Any],
) -> None:
    """Write one slide's cells; the index comes last, so that a slide has all of them or none.

    Parameters
    ----------
    store
        The tile store's folder.
    segmenter
        Name that `TileStore.cells` will be asked for.
    slide_id
        Slide as it is named in the store's index.
    items
        For each tile of the slide: its tile_id; its labels, shape (h, w), ids unique in the slide and 0
        where there is no nucleus; its regions, shape (h, w), 0 glass or nothing, 1 nuclei, 2 the rest of
        the tissue. Taken one by one, so they need not be in memory together.
    nuclei
        Columns of `NUCLEI_SCHEMA`, each of one value per nucleus; empty columns when there are none.
        `class` and `tile_id` may be left out. Read after the last item, so that what yields the items may
        fill the columns.
    """
    folder = cells_dir(store, segmenter)
    rows = []
    shard = f"{slide_id}.tar"
    with replacing(inside(folder, shard)) as temporary, ShardWriter(temporary) as tar:
        for tile_id, labels, regions in items:
            labels_at = tar.add(f"{tile_id}.labels", encode_labels(labels))
            regions_at = tar.add(f"{tile_id}.regions", encode_regions(regions))
            rows.append((tile_id, shard, *labels_at, *regions_at))
    count = len(nuclei["id"])
    columns = {name: nuclei.get(name, [None] * count) for name in NUCLEI_SCHEMA.names}
    write_table(folder / f"{slide_id}.nuclei.parquet", pa.table(columns, NUCLEI_SCHEMA))
    index = {name: [row[i] for row in rows] for i, name in enumerate(CELLS_SCHEMA.names)}
    write_table(folder / f"{slide_id}.parquet", pa.table(index, CELLS_SCHEMA))


def merge_cells(store: Path, segmenter: str) -> pa.Table:
    """Gather the indices of all finished slides into the segmenter's ``index.parquet``, and return it."""
    folder = cells_dir(store, segmenter)
    paths = [p for p in folder.glob("*.parquet") if not p.name.endswith(".nuclei.parquet")]
    return merge(paths, folder / INDEX, CELLS_SCHEMA)
