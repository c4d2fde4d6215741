"""A store's index: a row per tile, a table per slide, and the merged table that readers open."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dirl.core.boundary import inside, is_nameable, parsing
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.store.shards import REMEDY, check_size

INDEX = "index.parquet"
SLIDES = "slides.json"

TILES_SCHEMA = pa.schema(
    [
        pa.field("tile_id", pa.string(), nullable=False),
        pa.field("slide_id", pa.string(), nullable=False),
        pa.field("patient_id", pa.string()),
        pa.field("centre", pa.string()),
        pa.field("label", pa.string()),
        pa.field("x", pa.int64(), nullable=False),
        pa.field("y", pa.int64(), nullable=False),
        pa.field("tissue_fraction", pa.float32(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
    ]
)


@dataclass(frozen=True)
class SlideRecord:
    """What a store knows of a slide, or of a class of ready-made tiles.

    Attributes
    ----------
    kind
        ``slide``, or ``tiles`` for a folder of ready-made ones, which has no slide to go back to.
    slide_id, path, patient_id, size_px, mpp, level_downsamples
        As in `SlideInfo`, or as the user states; for ready-made tiles the folder, and the size and resolution
        of a tile.
    white
        Colour of the bare glass, which `dirl.slides.tissue.tissue_pixels` takes.
    tissue_fraction
        Share of the slide (of the tiles) that is tissue.
    tiles
        How many tiles there are.
    source
        Digest of what the tiles were made from.
    centre
        Where the slide was made; None where it is not known.
    bounds
        As in `SlideInfo`; None for ready-made tiles, and in stores that were made before it was kept.
    """

    kind: Literal["slide", "tiles"]
    slide_id: str
    path: Path
    patient_id: str | None
    size_px: tuple[int, int]
    mpp: float
    level_downsamples: tuple[float, ...]
    white: tuple[float, float, float]
    tissue_fraction: float
    tiles: int
    source: str
    centre: str | None = None
    bounds: tuple[int, int, int, int] | None = None


def to_json(record: SlideRecord) -> dict[str, Any]:
    """Turn a record into what JSON can hold."""
    return asdict(record) | {"path": str(record.path)}


def to_record(values: dict[str, Any]) -> SlideRecord:
    """Make a record from its JSON.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it is none.
    """
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is no record of a slide")
    lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    record = SlideRecord(**(values | lists | {"path": Path(values["path"])}))
    named = [record.slide_id, record.source, record.patient_id or "", record.centre or "", str(record.path)]
    whole = [*record.size_px, record.tiles]
    numbers = [*record.level_downsamples, *record.white, record.tissue_fraction, record.mpp]
    sound = (
        record.kind in ("slide", "tiles")
        and all(isinstance(each, str) and is_nameable(each) for each in named)
        and all(type(each) is int and each >= 0 for each in whole)
        and all(isinstance(each, int | float) and math.isfinite(each) for each in numbers)
        and (len(record.size_px), len(record.white)) == (2, 3)
        and record.mpp > 0
    )
    if not sound:
        raise ValueError(f"no sound record of the slide {record.slide_id!r}")
    return record


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, whole or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_table(
    path: Path, remedy: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None
) -> pa.Table:
    """Read a table, or some columns of it, or what a schema names; a column that it lacks is null.

    Raises
    ------
    StoreError
        If it is missing or damaged, or lacks values that the schema demands, as one of an earlier version
        does.
    """
    if not path.exists():
        raise StoreError("missing, as its command has not finished", where=path, remedy=remedy)
    with parsing(path, remedy=remedy):
        table = pq.read_table(path, columns=columns and list(columns), schema=schema, memory_map=True)
        # Strings are taken on trust until here: those that are no UTF-8 would fail where they are used.
        table.validate(full=True)
    for field in schema or ():
        if not field.nullable and table[field.name].null_count:
            raise StoreError(f"lacks values of {field.name}", where=path, remedy=remedy)
    return table


def merge(paths: Iterable[Path], out: Path, schema: pa.Schema) -> pa.Table:
    """Concatenate per-slide tables in the order of their names into one file, and return it.

    Raises
    ------
    StoreError
        Naming the first that is damaged.
    """
    remedy = "remove it and run the same command again"
    tables = [read_table(path, remedy, schema=schema) for path in sorted(paths) if path != out]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    write_table(out, table)
    return table


def check_shards(root: Path, index: pa.Table) -> None:
    """Check that every shard that an index names is there and as long as it was written.

    Raises
    ------
    StoreError
        Naming the first that is not.
    """
    shards = index["shard"].combine_chunks().dictionary_encode()
    codes = shards.indices.to_numpy()
    offset, length = [name for name in index.column_names if name.endswith(("offset", "length"))][-2:]
    starts, lengths = index[offset].to_numpy(), index[length].to_numpy()
    if ((starts < 0) | (lengths < 0) | (starts + lengths < 0)).any():  # the sum of two too large is below 0
        raise StoreError("an index of bytes that no file has", where=root, remedy=REMEDY)
    ends = np.zeros(len(shards.dictionary), np.int64)
    np.maximum.at(ends, codes, starts + lengths)
    for shard, end in zip(shards.dictionary.to_pylist(), ends.tolist(), strict=True):
        check_size(inside(root, shard), end)
