"""Writes the cells of a store: one tar, one index and one table of nuclei per slide and set of cells.

For every slide that is not yet `cells_finished`, a stage calls::

    write_cells(store.path, "hematoxylin", slide_id, ((tile_id, labels, regions) for ...), nuclei)

Slides can be written in any order and in several processes. At the end one process calls ``merge_cells``, and
`TileStore.cells` opens the result. The stage itself claims and finishes the card,
``cells/<name>/card.json``, in the folder `cells_dir`.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dirl.core.boundary import inside
from dirl.core.digests import FileDigest, are_whole
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.store.index import INDEX, check_shards, merge, read_parquet, write_parquet
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

# x and y are centroids in level-0 pixels, or in pixels of the ready-made tile that tile_id names. tile_id is
# null on a slide. class is null without classes.
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


def cells_dir(store: Path, cells: str) -> Path:
    """Folder of a set of cells, by its name."""
    return store / "cells" / cells


def cells_names(store: Path) -> list[str]:
    """Names of the cells in a store, sorted. Cells whose index was never written are not among them."""
    return sorted(path.parent.name for path in (store / "cells").glob(f"*/{INDEX}"))


def slide_files(slide_id: str) -> tuple[str, ...]:
    """Names of all files of a slide's cells, in the folder of these cells; the index is first."""
    ends = (".parquet", ".nuclei.parquet", ".statistics.json", ".tar")
    return (*(f"{slide_id}{end}" for end in ends), f"pictures/{slide_id}.png")


def cells_finished(
    store: Path, cells: str, slide_id: str, files: Mapping[str, FileDigest] | None = None
) -> bool:
    """Whether a slide's cells are written and, if `files` is given, match the digests in their card."""
    folder = cells_dir(store, cells)
    if files is not None:
        index, nuclei, *others = (name for name in slide_files(slide_id) if not name.endswith(".tar"))
        if not are_whole(folder, [index, nuclei, *(name for name in others if name in files)], files):
            return False
    try:
        check_shards(folder, read_parquet(folder / f"{slide_id}.parquet", "", schema=CELLS_SCHEMA))
    except StoreError:
        return False
    return (folder / f"{slide_id}.nuclei.parquet").exists()


def write_cells(
    store: Path,
    cells: str,
    slide_id: str,
    items: Iterable[tuple[str, NDArray[np.integer], NDArray[np.integer]]],
    nuclei: Mapping[str, Any],
) -> None:
    """Write one slide's cells. The index comes last, so that a slide has all of its cells or none.

    Parameters
    ----------
    items
        The tile_id, the labels (h, w) and the regions (h, w) of each tile of the slide. Labels are ids that
        are unique in the slide, 0 is background. Regions are 0 glass or nothing, 1 nuclei, 2 the rest of the
        tissue. Tiles are read one at a time, so they are not in memory together.
    nuclei
        Columns of `NUCLEI_SCHEMA`, with one value per nucleus. `class` and `tile_id` may be omitted. The
        columns are read after the last item, so the iterator of items can fill them.
    """
    folder = cells_dir(store, cells)
    rows = []
    shard = f"{slide_id}.tar"
    with replacing(inside(folder, shard)) as temporary, ShardWriter(temporary) as tar:
        for tile_id, labels, regions in items:
            labels_at = tar.add(f"{tile_id}.labels", encode_labels(labels))
            regions_at = tar.add(f"{tile_id}.regions", encode_regions(regions))
            rows.append((tile_id, shard, *labels_at, *regions_at))
    count = len(nuclei["id"])
    columns = {name: nuclei.get(name, [None] * count) for name in NUCLEI_SCHEMA.names}
    write_parquet(folder / f"{slide_id}.nuclei.parquet", pa.table(columns, NUCLEI_SCHEMA))
    index = {name: [row[i] for row in rows] for i, name in enumerate(CELLS_SCHEMA.names)}
    write_parquet(folder / f"{slide_id}.parquet", pa.table(index, CELLS_SCHEMA))


def merge_cells(store: Path, cells: str) -> pa.Table:
    """Merge the indices of all finished slides into their ``index.parquet``, and return it."""
    folder = cells_dir(store, cells)
    paths = [path for path in folder.glob("*.parquet") if path.with_suffix(".tar").exists()]
    return merge(paths, folder / INDEX, CELLS_SCHEMA)
