"""Reading a tile store: images and cells by number, the index as a table."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import simplejpeg
from numpy.typing import NDArray

from dirl.core.boundary import inside, parsing
from dirl.core.card import Card, read_card
from dirl.core.checked import checked, read_checked
from dirl.core.digests import digest
from dirl.core.errors import StoreError
from dirl.core.plugins import names
from dirl.slides.tiling import TileSpec
from dirl.store.cells_writer import CELLS_SCHEMA, cells_dir, cells_names
from dirl.store.index import INDEX, SLIDES, TILES_SCHEMA, SlideRecord, check_shards, read_parquet, to_record
from dirl.store.label_codec import decode_labels, decode_numbers, decode_regions
from dirl.store.shards import REMEDY, ShardReader, Stage


class TileStore:
    """Tiles of a cohort, read in any order.

    It may be pickled or forked to any number of processes: only its path is copied, and each process opens
    its own files.

    Parameters
    ----------
    path
        Directory that `dirl tile` made.

    Attributes
    ----------
    path
        The directory.
    card
        Its card.
    spec
        Settings of its tiles.
    slides
        Record of each slide, by slide_id.
    index
        One row per tile; the columns are those of `dirl.store.index.TILES_SCHEMA`.

    Raises
    ------
    StoreError
        If it is not a tile store, or is unfinished or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.card: Card = read_card(self.path, "tile")
        self.index = _open_index(self.path, self.card, TILES_SCHEMA, "run the same `dirl tile` again")
        found = read_checked(self.path, SLIDES, self.card)
        with parsing(self.path, remedy=REMEDY):
            config = self.card.config
            self.spec = TileSpec(**{k: config[k] for k in TileSpec.__dataclass_fields__})
            records = [to_record(values) for values in found]
        # Names of files are made from these ids, so they are checked here, once.
        self.slides: Mapping[str, SlideRecord] = {_named(self.path, one.slide_id): one for one in records}
        if strangers := set(pc.unique(self.index["slide_id"]).to_pylist()) - set(self.slides):
            reason = f"the index has a slide that {SLIDES} does not have: {min(strangers)!r}"
            raise StoreError(reason, where=self.path, remedy=REMEDY)
        self._images = _Members(self.path, "tile", self.index)

    @classmethod
    def open(cls, path: Path) -> "TileStore":
        """Open the store in a directory; see the class."""
        return cls(path)

    def __len__(self) -> int:
        return int(self.index.num_rows)

    def __reduce__(self) -> tuple[type["TileStore"], tuple[Path]]:
        return TileStore, (self.path,)

    @property
    def digest(self) -> str:
        """Digest of the index, and so of the tiles and their lengths."""
        return digest(self.path / INDEX)

    @cached_property
    def tile_ids(self) -> NDArray[np.str_]:
        """Every tile's id."""
        return _strings(self.index["tile_id"])

    @cached_property
    def slide_ids(self) -> NDArray[np.str_]:
        """Every tile's slide."""
        return _strings(self.index["slide_id"])

    @property
    def patient_ids(self) -> NDArray[np.str_]:
        """Every tile's patient, or an empty text."""
        return _strings(pc.fill_null(self.index["patient_id"], ""))

    @property
    def centres(self) -> NDArray[np.str_]:
        """Every tile's centre, the place where its slide was made, or an empty text."""
        return _strings(pc.fill_null(self.index["centre"], ""))

    @property
    def labels(self) -> NDArray[np.str_]:
        """Every tile's class, or an empty text."""
        return _strings(pc.fill_null(self.index["label"], ""))

    def jpeg(self, i: int) -> bytes:
        """JPEG file of tile `i`."""
        return self._images.read(i)

    def image(self, i: int) -> NDArray[np.uint8]:
        """Pixels of tile `i`.

        Returns
        -------
        ndarray of shape (size_px, size_px, 3), uint8

        Raises
        ------
        StoreError
            If the shard is damaged.
        """
        data = self.jpeg(i)
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB")  # type: ignore[no-any-return]
        except Exception as error:  # its bytes are as written: it was damaged before
            where = f"{self.path / self.index['shard'][i].as_py()}, tile {self.index['tile_id'][i]}"
            raise StoreError(
                f"damaged JPEG ({error})", where=where, remedy="make the store again: `dirl tile --overwrite`"
            ) from error

    def cells(self, name: str) -> "CellStore":
        """Cells of a name in these tiles; see `CellStore`.

        Raises
        ------
        StoreError
            If there are none, or not for every tile.
        """
        return CellStore(self, name)


class CellStore:
    """Cells of a store's tiles, by the same numbers as the images. It can be pickled, like `TileStore`.

    Parameters
    ----------
    store
        The store.
    name
        Name of the cells in the store. By default it is that of their segmenter.

    Attributes
    ----------
    name
        Name of the cells.
    path
        The directory of the cells.
    card
        Its card.

    Raises
    ------
    StoreError
        If there are none, or not for every tile.
    """

    def __init__(self, store: TileStore, name: str) -> None:
        self.path = cells_dir(store.path, name)
        self.name = name
        self._store = store.path
        if not (self.path / INDEX).exists():
            raise _no_cells(store.path, name)
        remedy = f"run the same `dirl cells {store.path}` again"
        self.card: Card = read_card(self.path, "cells")
        index = _open_index(self.path, self.card, CELLS_SCHEMA, remedy)
        rows = pc.index_in(store.index["tile_id"], index["tile_id"])
        if rows.null_count:
            raise StoreError(
                f"no cells of {name} for {rows.null_count} of {len(store)} tiles",
                where=store.path,
                remedy=remedy,
            )
        index = index.take(rows)
        self._labels = _Members(self.path, "cells", index, "labels_")
        self._regions = _Members(self.path, "cells", index, "regions_")

    def __len__(self) -> int:
        return len(self._labels)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen_cells, (self._store, self.name)

    def labels(self, i: int) -> NDArray[np.int32]:
        """Instance labels of tile `i`, shape (h, w): ids unique in the slide, 0 without a nucleus."""
        return decode_labels(self._labels.read(i))

    def numbers(self, i: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Nuclei of tile `i` numbered 1..m, shape (h, w), and the id of every number including 0."""
        return decode_numbers(self._labels.read(i))

    def regions(self, i: int) -> NDArray[np.uint8]:
        """Regions of tile `i`, shape (h, w): 0 glass or none, 1 nuclei, 2 the rest of the tissue."""
        return decode_regions(self._regions.read(i))

    def nuclei(self, slide_id: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Nuclei of a slide, one per row; all or some columns of `dirl.store.cells_writer.NUCLEI_SCHEMA`."""
        path = checked(self.path, f"{slide_id}.nuclei.parquet", self.card)
        return read_parquet(path, REMEDY, columns)


class _Members:
    """Place and checksum of each tile's bytes."""

    def __init__(self, root: Path, stage: Stage, index: pa.Table, prefix: str = "") -> None:
        shards = index["shard"].combine_chunks().dictionary_encode()
        self._names: list[str] = shards.dictionary.to_pylist()
        self._codes = shards.indices.to_numpy()
        self._places = [index[f"{prefix}{name}"].to_numpy() for name in ("offset", "length", "crc32")]
        self._reader = ShardReader(root, stage)

    def __len__(self) -> int:
        return len(self._codes)

    def read(self, i: int) -> bytes:
        offset, length, crc32 = (int(values[i]) for values in self._places)
        return self._reader.read(self._names[self._codes[i]], offset, length, crc32)


def _open_index(root: Path, card: Card, schema: pa.Schema, remedy: str) -> pa.Table:
    index = read_parquet(checked(root, INDEX, card), remedy)
    # Stores of earlier versions lack some columns. A missing column that may be null is null.
    for field in schema:
        if field.nullable and field.name not in index.column_names:
            index = index.append_column(field, pa.nulls(len(index), field.type))
    if set(index.column_names) != set(schema.names):
        raise StoreError("not an index of this version", where=root / INDEX, remedy=remedy)
    with parsing(root / INDEX, remedy=remedy):
        index = index.select(schema.names).cast(schema)
    check_shards(root, index)
    return index


def _named(root: Path, slide_id: str) -> str:
    inside(root, slide_id)
    if "/" in slide_id:
        raise StoreError(f"the name {slide_id!r} leads into a folder", where=root, remedy=REMEDY)
    return slide_id


def _no_cells(store: Path, name: str) -> StoreError:
    """Make the error for missing cells. Only the name of a segmenter is advised as one."""
    known = name in names("dirl.segmenters")
    make = f"run `dirl cells {store} --segmenter {name}`" if known else f"run `dirl cells {store}`"
    found = cells_names(store)
    if not found:
        return StoreError(f"no cells of {name}", where=store, remedy=make)
    reason = f"no cells of {name}; there are cells of {', '.join(found)}"
    keys = f"`--set cells={found[0]}` for `dirl pretrain`, `set: {{cells: {found[0]}}}` in a study"
    remedy = f"name {found[0]} (--cells {found[0]}; {keys}), or {make}"
    return StoreError(reason, where=store, remedy=remedy)


def _reopen_cells(store: Path, name: str) -> CellStore:
    return TileStore.open(store).cells(name)


def _strings(column: pa.ChunkedArray) -> NDArray[np.str_]:
    return np.asarray(column.to_pylist(), dtype=np.str_)
