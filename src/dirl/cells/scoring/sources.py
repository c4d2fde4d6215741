"""The two sources of labels to compare: label files, and the cells of a store."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from dirl.cells.files.label_maps import read_map
from dirl.cells.files.label_pictures import SUFFIXES
from dirl.cells.files.matching import LABELS, listed
from dirl.core.card import read_card
from dirl.core.digests import digest
from dirl.core.errors import ConfigError, StoreError
from dirl.core.layout import CARD
from dirl.slides.tiling import dotless
from dirl.store.cells_writer import cells_names
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import INDEX

Labels = NDArray[np.int32]
CACHED_SLIDES = 16


@dataclass(frozen=True)
class LabelImage:
    """The nuclei of one image, as instance labels (h, w); 0 is background.

    Attributes
    ----------
    mpp
        µm/px; None if it is not stated.
    seen
        Mask of the pixels that have labels, (h, w). None is all.
    class_ids
        Ids of the nuclei of each class, in the image or elsewhere in its slide; empty without classes.
    """

    labels: Labels
    mpp: float | None = None
    seen: NDArray[np.bool_] | None = None
    class_ids: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)


class FileLabels:
    """One label file, or those of a folder at any depth; if any is called ``NAME.labels.*``, only these.

    The name of an image is its path in the folder without suffixes.

    Raises
    ------
    ConfigError
        If there are no files, or two for one name.
    """

    classes: Sequence[str] = ()

    def __init__(self, place: Path) -> None:
        self.place, self.title = place, place.stem if place.is_file() else place.name
        self.names: list[str] = []
        self._files: dict[str, Path] = {}
        for file in _label_files(place):
            folder = place.parent if place.is_file() else place
            name = file.relative_to(folder).with_name(file.stem.removesuffix(LABELS)).as_posix()
            if dotless(name) in self._files:
                raise ConfigError(f"two label files for {name}", where=place, remedy="keep one of them")
            self._files[dotless(name)] = file
            self.names.append(name)

    @cached_property
    def digest(self) -> str:
        """Digest of all files."""
        return digest({name: digest(file) for name, file in self._files.items()})

    def __contains__(self, name: str) -> bool:
        return dotless(name) in self._files

    def slide(self, name: str) -> str:
        """Return the name, since a file does not state its slide."""
        return name

    def read(self, name: str) -> LabelImage:
        """Read one image; a file does not state its resolution."""
        return LabelImage(read_map(self._files[dotless(name)])[0])


class CellLabels:
    """Cells of a store: tiles by tile_id or by the name of a ready-made tile, and slides by slide_id.

    A slide is assembled from its tiles. Pixels outside of every tile are not seen.
    """

    def __init__(self, store: TileStore, cells: str) -> None:
        self._store, self._cells = store, store.cells(cells)
        self.place, self.title = self._cells.path, cells
        self.names: list[str] = store.tile_ids.tolist()
        self._slide_of = store.slide_ids
        self._tiles = {dotless(name): row for row, name in enumerate(self.names)}
        stems = Counter(name.rpartition("/")[2] for name in self._tiles)
        self._tiles |= {
            stem: row for name, row in self._tiles.items() if stems[stem := name.rpartition("/")[2]] == 1
        }
        self._slides = {dotless(r.slide_id): r for r in store.slides.values() if r.kind == "slide"}

    @cached_property
    def digest(self) -> str:
        """Digest of the settings and the index of the cells."""
        return digest([self._cells.card.digest, digest(self.place / INDEX)])

    @cached_property
    def classes(self) -> Sequence[str]:
        """Names of the classes, sorted."""
        columns = (self._cells.nuclei(slide, ["class"])["class"] for slide in self._store.slides)
        return sorted(set().union(*(column.unique().to_pylist() for column in columns)) - {None})

    def __contains__(self, name: str) -> bool:
        return dotless(name) in self._slides or dotless(name) in self._tiles

    def slide(self, name: str) -> str:
        """Return the slide of a tile, or the name of a ready-made tile."""
        if dotless(name) in self._slides:
            return name
        slide_id = str(self._slide_of[self._tiles[dotless(name)]])
        return slide_id if self._store.slides[slide_id].kind == "slide" else name

    def read(self, name: str) -> LabelImage:
        """Read a tile, or assemble a slide."""
        mpp = self._store.spec.mpp
        if dotless(name) in self._slides:
            slide_id = self._slides[dotless(name)].slide_id
            labels, seen = self._assembled(slide_id)
            return LabelImage(labels, mpp, seen, _ids_by_class(self._cells, slide_id))
        row = self._tiles[dotless(name)]
        class_ids = _ids_by_class(self._cells, str(self._slide_of[row]))
        return LabelImage(self._cells.labels(row), mpp, class_ids=class_ids)

    def _assembled(self, slide_id: str) -> tuple[Labels, NDArray[np.bool_]]:
        record = self._store.slides[slide_id]
        scale = record.mpp / self._store.spec.mpp
        width, height = (max(1, round(side * scale)) for side in record.size_px)
        labels, seen = np.zeros((height, width), np.int32), np.zeros((height, width), bool)
        for row in np.flatnonzero(self._slide_of == slide_id).tolist():
            x, y = (round(self._store.index[name][row].as_py() * scale) for name in ("x", "y"))
            tile = self._cells.labels(row)
            box = slice(y, y + tile.shape[0]), slice(x, x + tile.shape[1])
            labels[box] = tile[: height - y, : width - x]
            seen[box] = True
        return labels, seen


Source = FileLabels | CellLabels
"""Label images by name. Their digest changes with the labels."""


def open_sources(place: Path) -> list[Source]:
    """Open the labels at a path: label files, ``STORE/cells/NAME``, or all cells of a ``STORE``.

    Raises
    ------
    ConfigError
        If there are no labels.
    StoreError
        If a store has no such cells, or if some of its tiles have none.
    """
    here = place.resolve()
    if here.name == "cells" and _is_store(here.parent):
        here = here.parent
    if _is_store(here):
        found = cells_names(here)
        if not found:
            raise StoreError("holds no cells", where=place, remedy=f"run `dirl cells {place}`")
        store = TileStore.open(here)
        return [CellLabels(store, name) for name in found]
    if here.parent.name == "cells" and _is_store(here.parent.parent):
        return [CellLabels(TileStore.open(here.parent.parent), here.name)]
    return [FileLabels(place)]


def _is_store(place: Path) -> bool:
    return (place / CARD).is_file() and read_card(place).stage == "tile"


def _label_files(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise ConfigError("no such file or folder", where=place, remedy="check the path")
    files = listed(place, SUFFIXES)
    # Images may lie next to their labels.
    files = [file for file in files if file.stem.endswith(LABELS)] or files
    if not files:
        raise ConfigError(
            f"holds no label files ({', '.join(SUFFIXES)})",
            where=place,
            remedy="name a folder of label images, a store, or STORE/cells/NAME",
        )
    return files


@lru_cache(CACHED_SLIDES)
def _ids_by_class(cells: CellStore, slide_id: str) -> Mapping[str, NDArray[np.integer]]:
    nuclei = cells.nuclei(slide_id, ["id", "class"])
    return {
        name: nuclei.filter(pc.equal(nuclei["class"], name))["id"].to_numpy()
        for name in nuclei["class"].unique().to_pylist()
        if name is not None
    }
