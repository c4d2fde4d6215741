"""The index of a store: one row per tile, one table per slide, and the merged table for readers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dirl.core.boundary import has_control_characters, inside, parsing
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
    """A store's record of a slide, or of a class of ready-made tiles.

    Attributes
    ----------
    kind
        ``slide``, or ``tiles`` for a folder of ready-made tiles, whose slide is not available.
    slide_id, path, patient_id, size_px, mpp, level_downsamples
        As in `SlideInfo`, or by the cohort's table. For ready-made tiles the folder, and the size and
        resolution of a tile.
    white
        Colour of the bare glass, an argument of `dirl.slides.tissue.tissue_pixels`.
    tissue_fraction
        Share of tissue in the slide, or in the ready-made tiles.
    tiles
        Number of tiles.
    source
        Digest of the tiles' source.
    centre
        Place where the slide was made; None if unknown.
    bounds
        As in `SlideInfo`; None for ready-made tiles, and in stores of earlier versions.
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
    """Turn a record into a JSON value."""
    return asdict(record) | {"path": str(record.path)}


def to_record(values: dict[str, Any]) -> SlideRecord:
    """Make a record from its JSON. A `ValueError`, `TypeError` or `KeyError` tells that it is not valid."""
    if not isinstance(values, dict):
        raise TypeError(f"{values!r} is not a record of a slide")
    lists = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
    record = SlideRecord(**(values | lists | {"path": Path(values["path"])}))
    named = [record.slide_id, record.source, record.patient_id or "", record.centre or "", str(record.path)]
    whole = [*record.size_px, record.tiles]
    numbers = [*record.level_downsamples, *record.white, record.tissue_fraction, record.mpp]
    sound = (
        record.kind in ("slide", "tiles")
        and all(isinstance(each, str) and not has_control_characters(each) for each in named)
        and all(type(each) is int and each >= 0 for each in whole)
        and all(isinstance(each, int | float) and math.isfinite(each) for each in numbers)
        and (len(record.size_px), len(record.white)) == (2, 3)
        and record.mpp > 0
    )
    if not sound:
        raise ValueError(f"not a valid record of the slide {record.slide_id!r}")
    return record


def write_parquet(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet, completely or not at all."""
    with replacing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_parquet(
    path: Path, remedy: str, columns: Sequence[str] | None = None, schema: pa.Schema | None = None
) -> pa.Table:
    """Read a table, some of its columns, or the columns of a schema. A missing column is null.

    A `StoreError` tells that it is missing or damaged, or lacks values that the schema requires, as tables of
    earlier versions do.
    """
    if not path.exists():
        raise StoreError("missing, since its command did not finish", where=path, remedy=remedy)
    with parsing(path, remedy=remedy):
        table = pq.read_table(path, columns=columns and list(columns), schema=schema, memory_map=True)
        # Parquet does not check strings. One that is not UTF-8 would fail only when it is used.
        table.validate(full=True)
    for field in schema or ():
        if not field.nullable and table[field.name].null_count:
            raise StoreError(f"lacks values of {field.name}", where=path, remedy=remedy)
    return table


def merge(paths: Iterable[Path], out: Path, schema: pa.Schema) -> pa.Table:
    """Concatenate the tables of slides in the order of their names into one file, and return it."""
    remedy = "remove it and run the same command again"
    tables = [read_parquet(path, remedy, schema=schema) for path in sorted(paths) if path != out]
    table = pa.concat_tables(tables) if tables else schema.empty_table()
    write_parquet(out, table)
    return table


def check_shards(root: Path, index: pa.Table) -> None:
    """Check that every shard of an index exists and has its original length; else it is a `StoreError`."""
    shards = index["shard"].combine_chunks().dictionary_encode()
    codes = shards.indices.to_numpy()
    offset, length = [name for name in index.column_names if name.endswith(("offset", "length"))][-2:]
    starts, lengths = index[offset].to_numpy(), index[length].to_numpy()
    if ((starts < 0) | (lengths < 0) | (starts + lengths < 0)).any():  # a sum that overflows is below 0
        raise StoreError("the index has places that no file can have", where=root, remedy=REMEDY)
    ends = np.zeros(len(shards.dictionary), np.int64)
    np.maximum.at(ends, codes, starts + lengths)
    for shard, end in zip(shards.dictionary.to_pylist(), ends.tolist(), strict=True):
        check_size(inside(root, shard), end)
