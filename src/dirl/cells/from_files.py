"""Labels of tiles from nuclei in the user's files; the slide itself is not needed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.frames import bounds_of, doubt_by_tissue
from dirl.cells.quality.checks import NuclearContrast
from dirl.cells.sink import SHOWN_TILES, LabelledTile, LabelSink
from dirl.cells.source import CellSource, FileNuclei, PixelGrid, tile_grid
from dirl.prior.regions import cell_region_ids
from dirl.slides.tissue import tissue_pixels
from dirl.store.dataset import TileStore

TileLabels = Iterator[tuple[int, NDArray[np.int32]]]


def label_from_files(
    tiles: TileStore, slide_id: str, source: CellSource, sink: LabelSink
) -> Iterator[LabelledTile]:
    """Cut the labels of a slide's tiles from the user's nuclei, for `dirl.store.cells_writer.write_cells`."""
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id).tolist()
    show = set(rows[:: max(1, len(rows) // SHOWN_TILES)][:SHOWN_TILES])
    shown = []
    contrast = NuclearContrast()
    files = source.files(tiles, slide_id)
    cut = _from_slide_file if None in files else _from_tile_files
    for row, labels in cut(tiles, slide_id, source, files, rows, sink):
        rgb = tiles.image(row)
        if row in show:
            shown.append((rgb, labels))
        tissue = tissue_pixels(rgb, tiles.spec.mpp, record.white)
        contrast.add(rgb, labels, tissue)
        yield str(tiles.index["tile_id"][row]), labels, cell_region_ids(labels, tissue)
        sink.advance(1)
    sink.misplaced = contrast.doubt()
    sink.draw(*zip(*shown, strict=True))


def _from_slide_file(
    tiles: TileStore,
    slide_id: str,
    source: CellSource,
    files: Mapping[str | None, Path],
    rows: Sequence[int],
    sink: LabelSink,
) -> TileLabels:
    """Cut the tiles from one file of the whole slide."""
    nuclei = _read(tiles, slide_id, source, files[None], sink)
    sink.notes.update(nuclei.notes)
    _add(sink, nuclei, tiles.slides[slide_id].mpp)
    for row in rows:
        yield row, nuclei.cut(tile_grid(tiles, row))


def _read(tiles: TileStore, slide_id: str, source: CellSource, file: Path, sink: LabelSink) -> FileNuclei:
    """Read a slide's file; pass the origin of its coordinates to the sink if it had to be chosen."""
    record = tiles.slides[slide_id]
    whole = (0, 0, *record.size_px)
    bounds = bounds_of(record)
    cropped = bounds not in (None, whole)
    nuclei = source.read(file, record.size_px, record.mpp, bounds or whole)
    if nuclei.frame is not None:
        doubt = nuclei.frame.doubt
        if bounds is None and nuclei.frame.name == "qupath":
            doubt = "the store does not record whether QuPath crops the slide, and the slide is missing"
        elif cropped:
            at = np.stack([nuclei.x, nuclei.y], 1)
            doubt = doubt or doubt_by_tissue(tiles, slide_id, at, nuclei.frame, bounds or whole)
        if cropped or doubt:
            sink.frame = replace(nuclei.frame, doubt=doubt)
    return nuclei


def _from_tile_files(
    tiles: TileStore,
    slide_id: str,
    source: CellSource,
    files: Mapping[str | None, Path],
    rows: Sequence[int],
    sink: LabelSink,
) -> TileLabels:
    """Read a file for each tile.

    A tile keeps its ids if no earlier tile of the slide uses one of them. Otherwise it gets new ones.
    """
    record = tiles.slides[slide_id]
    spec = tiles.spec
    scale = spec.mpp / record.mpp
    used: set[int] = set()
    last = 0
    for row in rows:
        tile_id, x, y = (tiles.index[name][row].as_py() for name in ("tile_id", "x", "y"))
        nuclei = source.read(files[tile_id], (spec.size_px, spec.size_px), spec.mpp)
        sink.notes.update(nuclei.notes)
        ids = nuclei.ids
        if not used.isdisjoint(ids.tolist()):
            ids = (last + 1 + np.arange(len(ids))).astype(np.int32)
        used.update(ids.tolist())
        last = max(last, int(ids.max(initial=0)))
        if record.kind == "tiles":
            _add(sink, replace(nuclei, ids=ids), spec.mpp, tile_id)
        else:
            placed = replace(nuclei, ids=ids, x=x + nuclei.x * scale, y=y + nuclei.y * scale)
            _add(sink, placed, spec.mpp)
        yield row, _renumbered(nuclei.cut(PixelGrid(0, 0, spec.size_px)), nuclei.ids, ids)


def _add(sink: LabelSink, nuclei: FileNuclei, mpp: float, tile_id: str | None = None) -> None:
    """Add nuclei whose areas are in pixels of `mpp` to the table."""
    areas = nuclei.area_px * mpp**2
    sink.nuclei.add(nuclei.ids, nuclei.x, nuclei.y, areas, nuclei.classes, nuclei.touches_border, tile_id)


def _renumbered(
    labels: NDArray[np.int32], before: NDArray[np.int32], after: NDArray[np.int32]
) -> NDArray[np.int32]:
    order = np.argsort(before)
    old = np.concatenate([[0], before[order]])
    new = np.concatenate([[0], after[order]]).astype(np.int32)
    return np.asarray(new[np.searchsorted(old, labels)])
