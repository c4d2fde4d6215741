"""The viewer's content: all inputs are opened and checked before the first page is served."""

import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import numpy as np
from numpy.typing import NDArray

from dirl.audit.findings import PRIMARY, TITLES
from dirl.core.errors import ConfigError, DirlWarning, StoreError
from dirl.core.layout import CARD
from dirl.core.parallel import available_cores
from dirl.slides.dicom import first_dicom
from dirl.store.cells_writer import cells_names
from dirl.store.dataset import CellStore, TileStore
from dirl.viewer.entries import ListEntry, OpenEntry, entries_of_store, entry_of_slide
from dirl.viewer.maps import SlideMap
from dirl.viewer.measures import AuditMeasures
from dirl.viewer.neighbours import Neighbours, read_neighbours
from dirl.viewer.overlays import PALETTES, nucleus_classes, tile_nuclei, tissue_png, to_hex
from dirl.viewer.pictures import deep_zoom_tile

OPEN_SLIDES = 16
CACHED_TILES = 1024

Asked = TypeVarTuple("Asked")
Value = TypeVar("Value")


class Scene:
    """Slides or tiles, with their overlays. `dirl.viewer.run.open_viewer` describes the inputs.

    Attributes
    ----------
    entries
        Entries of the list.
    store
        The tile store, if `path` is one.
    cells
        Cells of the store, by segmenter.
    turns
        A semaphore with the number of cores. A request holds it while its answer is computed.
    """

    def __init__(
        self,
        path: Path,
        *,
        audit: Path | None = None,
        maps: Sequence[Path] = (),
        features: Path | None = None,
        mpp_override: float | None = None,
    ) -> None:
        self.title = path.resolve().name
        self.store = TileStore.open(path) if (path / CARD).exists() else None
        if self.store is None and path.is_dir() and first_dicom(path) == path:
            raise StoreError(
                "neither a tile store nor a DICOM slide",
                where=path,
                remedy="give a slide, or make a store of it with `dirl tile`",
            )
        if self.store is None:
            self.entries = [entry_of_slide(path, mpp_override)]
        elif mpp_override is not None:
            raise ConfigError(
                "the slides of a store have a resolution", where="--mpp-override", remedy="leave it out"
            )
        else:
            self.entries = entries_of_store(self.store)
        if not self.entries:
            raise StoreError("contains no tiles", where=path, remedy="run `dirl tile` again")
        self.cells = {} if self.store is None else _all_cells(self.store)
        self.audit: AuditMeasures | None = None
        self.neighbours: Neighbours | None = None
        if audit is not None:
            self.audit = AuditMeasures(audit, _needed(self.store, "--audit"))
        if features is not None:
            self.neighbours = read_neighbours(features, _needed(self.store, "--features"))
        self.maps, self.map_entries = _open_maps(maps, self.entries)
        self._entry_of_row = np.full(0 if self.store is None else len(self.store), -1, np.int64)
        for number, entry in enumerate(self.entries):
            self._entry_of_row[entry.rows] = number
        self.turns = threading.Semaphore(available_cores())
        self._opened = cached_for_threads(ListEntry.open, OPEN_SLIDES)
        self._classes = cached_for_threads(nucleus_classes, OPEN_SLIDES)
        self._tissue = cached_for_threads(self._find_tissue, OPEN_SLIDES)
        self.slide_tile = lru_cache(CACHED_TILES)(self._slide_tile)

    def open_entry(self, number: int) -> OpenEntry:
        """Open an entry. The last few stay open, and an older one closes when no request uses it."""
        return self._opened(self.entries[number])

    def tissue(self, number: int) -> bytes | None:
        """Tissue of a slide as PNG; None without a slide."""
        return self._tissue(number)

    def close(self) -> None:
        """Close the maps' files. Slides close when no request uses them."""
        for one in self.maps:
            one.close()

    def describe(self) -> dict[str, Any]:
        """Data that the page needs first."""
        return {
            "title": self.title,
            "entries": [
                {"name": entry.name, "tiles": len(entry.rows), "ready_made": entry.ready_made}
                for entry in self.entries
            ],
            "cells": list(self.cells),
            "maps": [
                {
                    "name": one.name,
                    "encoder": one.encoder,
                    "block": one.block,
                    "folder": one.path.resolve().name,
                    "regions": len(one.regions),
                    "entry": entry,
                    "size_px": one.size_px,
                    "token_px": one.token_px,
                    "offset_px": one.offset_px,
                    "levels": one.levels,
                    "unit": one.unit,
                    "facts": one.facts,
                    "channels": [{"name": c.name, "range": c.range} for c in one.channels],
                }
                for one, entry in zip(self.maps, self.map_entries, strict=True)
            ],
            "audit": None if self.audit is None else _describe_audit(self.audit),
            "features": self.neighbours is not None,
            "colours": {name: to_hex(name) for name in PALETTES},
        }

    def describe_entry(self, number: int) -> dict[str, Any]:
        """Data that the page needs to show an entry."""
        entry, shown = self.entries[number], self.open_entry(number)
        return {
            "name": entry.name,
            "note": shown.note,
            "size_px": shown.picture.size_px,
            "mpp": shown.picture.mpp,
            "tissue": shown.slide is not None,
            "tile_px": 0 if self.store is None else self.store.spec.size_px,
            "side_px": shown.side_px,
            "numbers": entry.rows.tolist(),
            "x": shown.x.tolist(),
            "y": shown.y.tolist(),
            "classes": {name: self._classes(cells, entry.slide_id)[0] for name, cells in self.cells.items()},
        }

    def nuclei(self, number: int, cells: str, i: int) -> list[dict[str, Any]]:
        """Outlines of the nuclei of tile `i`; see `dirl.viewer.overlays.tile_nuclei`."""
        held = self.cells[cells]
        return tile_nuclei(held, i, self._classes(held, self.entries[number].slide_id)[1])

    def values(self, number: int, encoder: int, block: int, head: int, name: str) -> NDArray[np.float32]:
        """A measure of the entry's tiles."""
        assert self.audit is not None
        return self.audit.values(self.entries[number].rows, encoder, block, head, name)

    def describe_tile(self, i: int) -> dict[str, Any]:
        """All data of a tile of the store."""
        assert self.store is not None
        row = self.store.index.slice(i, 1).to_pylist()[0]
        record = self.store.slides[row["slide_id"]]
        facts = {name: row[name] for name in ("tile_id", "slide_id", "patient_id", "centre", "label")}
        return facts | {
            "number": i,
            "entry": int(self._entry_of_row[i]),
            "place": None if record.kind == "tiles" else [row["x"], row["y"]],
            "tissue_fraction": row["tissue_fraction"],
            "side_um": self.store.spec.size_px * self.store.spec.mpp,
            "nuclei": [self._count(name, i, row["slide_id"]) for name in self.cells],
            "measures": [] if self.audit is None else self.audit.of_tile(i),
            "neighbours": [
                {"number": k, "cosine": cosine, "slide_id": str(self.store.index["slide_id"][k])}
                for k, cosine in (self.neighbours.nearest(i) if self.neighbours else [])
            ],
        }

    def _slide_tile(self, number: int, level: int, column: int, row: int) -> bytes | None:
        """Deep Zoom tile of an entry as JPEG; see `dirl.viewer.pictures.deep_zoom_tile`."""
        return deep_zoom_tile(self.open_entry(number).picture, level, column, row)

    def _find_tissue(self, number: int) -> bytes | None:
        slide = self.open_entry(number).slide
        return None if slide is None else tissue_png(slide)

    def _count(self, cells: str, i: int, slide_id: str) -> dict[str, Any]:
        """Number of nuclei that are at least partly in a tile, by class, and the share that they cover."""
        labels, ids = self.cells[cells].numbers(i)
        names, classes = self._classes(self.cells[cells], slide_id)
        present = classes[ids[1:]]
        counts = {name: int((present == number).sum()) for number, name in enumerate(names)}
        return {"name": cells, "count": len(ids) - 1, "share": float((labels > 0).mean()), "classes": counts}


def _all_cells(store: TileStore) -> dict[str, CellStore]:
    """Cells by segmenter. Cells that lack tiles are left out, with a warning."""
    cells = {}
    for name in cells_names(store.path):
        try:
            cells[name] = store.cells(name)
        except StoreError as error:
            warnings.warn(f"not shown: {error}", category=DirlWarning, stacklevel=2)
    return cells


def _open_maps(folders: Sequence[Path], entries: Sequence[ListEntry]) -> tuple[list[SlideMap], list[int]]:
    """Open maps, and find the entry of each. If one does not match, all are closed."""
    maps, places = [], []
    with ExitStack() as stack:
        for folder in folders:
            maps.append(SlideMap(folder))
            stack.callback(maps[-1].close)
            places.append(_place(maps[-1], entries))
        stack.pop_all()
    return maps, places


def _place(one: SlideMap, entries: Sequence[ListEntry]) -> int:
    """Number of the entry that a map belongs to."""
    for number, entry in enumerate(entries):
        if entry.slide_id == one.slide_id and entry.size_px == one.slide_size_px:
            return number
    sizes = {entry.slide_id: entry.size_px for entry in entries}
    if one.slide_id in sizes:
        width, height = sizes[one.slide_id]
        mapped = "×".join(map(str, one.slide_size_px))
        reason = f"the slide {one.slide_id} here has {width}×{height} px, but the mapped one has {mapped} px"
    else:
        reason = f"a map of {one.slide_id}, which is not shown here"
    raise StoreError(reason, where=one.path, remedy="give a map of a slide that is shown")


def _needed(store: TileStore | None, option: str) -> TileStore:
    if store is None:
        raise ConfigError("needs a tile store, not a slide", where=option, remedy="view the store instead")
    return store


def _describe_audit(audit: AuditMeasures) -> dict[str, Any]:
    there = [name for name in TITLES if name in audit.columns and name != "head_diversity"]
    measures = [{"name": name, "title": TITLES[name]} for name in there]
    kept = {"name", "kind", "blocks", "heads"}
    encoders = [one.model_dump(include=kept) for one in audit.encoders]
    return {"encoders": encoders, "measures": measures, "primary": PRIMARY}


def cached_for_threads(function: Callable[[*Asked], Value], size: int) -> Callable[[*Asked], Value]:
    """Cache the last `size` values of a function. Threads that call it at the same time wait for one call.

    `functools.lru_cache` alone would call the function for each thread. Its arguments are hashable, and only
    one thread runs it at a time.
    """
    lock = threading.Lock()
    kept = lru_cache(size)(function)

    def value(*asked: *Asked) -> Value:
        with lock:
            return kept(*asked)

    return value
