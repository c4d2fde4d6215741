"""The tiles' labels from nuclei that the user has: the counterpart of finding them, without the slide."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.contrast_check import Contrast
from dirl.cells.files.frames import bounds_of, doubt_by_tissue
from dirl.cells.files.matching import CellSource, FramedSource, Grid, OwnNuclei
from dirl.cells.sink import SHOWN_TILES, Item, Told
from dirl.prior.regions import region_ids
from dirl.slides.tissue import tissue_pixels
from dirl.store.dataset import TileStore


def own_tiles(tiles: TileStore, slide_id: str, source: CellSource, told: Told) -> Iterator[Item]:
    """Cut the labels of a slide's tiles from the user's, as `dirl.store.cells_writer.write_cells` takes them.

    Parameters
    ----------
    tiles
        The store.
    slide_id
        One of its slides.
    source
        Where the nuclei come from.
    told
        Who is told of the nuclei, and what the source mended or left out.
    """
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id).tolist()
    show = set(rows[:: max(1, len(rows) // SHOWN_TILES)][:SHOWN_TILES])
    shown = []
    contrast = Contrast()
    files = source.files(tiles, slide_id)
    cut = _from_slide if None in files else _from_tiles
    for row, labels in cut(tiles, slide_id, source, files, rows, told):
        rgb = tiles.image(row)
        if row in show:
            shown.append((rgb, labels))
        tissue = tissue_pixels(rgb, tiles.spec.mpp, record.white)
        contrast.add(rgb, labels, tissue)
        yield str(tiles.index["tile_id"][row]), labels, region_ids(labels, tissue)
    if doubt := contrast.doubt():
        told.about["misplaced"] = doubt
    told.draw(*zip(*shown, strict=True))


def first_pixel(tiles: TileStore, row: int) -> tuple[int, int]:
    """Row and column of a tile's first pixel on its slide's own grid of the tiles' resolution."""
    step = tiles.spec.mpp / tiles.slides[str(tiles.index["slide_id"][row])].mpp
    y, x = (tiles.index[name][row].as_py() / step for name in ("y", "x"))
    return int(np.floor(y + 0.5)), int(np.floor(x + 0.5))


def _from_slide(
    tiles: TileStore,
    slide_id: str,
    source: CellSource,
    files: Mapping[str | None, Any],
    rows: Sequence[int],
    told: Told,
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Cut tiles from one file, on the slide's own grid of the tiles' resolution.

    So tiles that overlap, or whose corners do not lie on it, still have the same pixels of a nucleus.
    """
    record = tiles.slides[slide_id]
    nuclei = _read(tiles, slide_id, source, files[None], told)
    told.notes.update(nuclei.notes)
    told.nuclei(**_columns(nuclei, record.mpp), id=nuclei.ids.tolist(), tile_id=[None] * len(nuclei.ids))
    step = tiles.spec.mpp / record.mpp
    for row in rows:
        yield row, nuclei.cut(Grid(*first_pixel(tiles, row), tiles.spec.size_px, step))


def _read(tiles: TileStore, slide_id: str, source: CellSource, file: Path, told: Told) -> OwnNuclei:
    """Read a slide's file, and say where its coordinates begin where there is a choice."""
    record = tiles.slides[slide_id]
    if not isinstance(source, FramedSource):
        return source.read(file, record.size_px, record.mpp)
    whole = (0, 0, *record.size_px)
    bounds = bounds_of(record)
    nuclei = source.read_framed(file, record.size_px, record.mpp, bounds or whole)
    if nuclei.frame is not None:
        doubt = nuclei.frame.doubt
        if bounds is None and nuclei.frame.name == "qupath":
            doubt = "the store is too old to know whether QuPath crops the slide, and the slide is gone"
        elif bounds not in (None, whole):
            at = np.stack([nuclei.x, nuclei.y], 1)
            doubt = doubt or doubt_by_tissue(tiles, slide_id, at, nuclei.frame, bounds or whole)
        if bounds not in (None, whole) or doubt:
            told.about["frame"] = {"taken": str(nuclei.frame), "why": nuclei.frame.why, "doubt": doubt}
    return nuclei


def _from_tiles(
    tiles: TileStore,
    slide_id: str,
    source: CellSource,
    files: Mapping[str | None, Any],
    rows: Sequence[int],
    told: Told,
) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Take a file for each tile.

    Ids are kept where no earlier tile of the slide has one of them; else the tile's are numbered on.
    """
    record = tiles.slides[slide_id]
    spec = tiles.spec
    scale = spec.mpp / record.mpp
    used: set[int] = set()
    last = 0
    for row in rows:
        tile_id, x, y = (tiles.index[name][row].as_py() for name in ("tile_id", "x", "y"))
        nuclei = source.read(files[tile_id], (spec.size_px, spec.size_px), spec.mpp)
        told.notes.update(nuclei.notes)
        ids = nuclei.ids
        if not used.isdisjoint(ids.tolist()):
            ids = (last + 1 + np.arange(len(ids))).astype(np.int32)
        used.update(ids.tolist())
        last = max(last, int(ids.max(initial=0)))
        columns = _columns(nuclei, spec.mpp)
        if record.kind == "slide":
            columns["x"] = [x + at * scale for at in columns["x"]]
            columns["y"] = [y + at * scale for at in columns["y"]]
        owner = tile_id if record.kind == "tiles" else None
        told.nuclei(**columns, id=ids.tolist(), tile_id=[owner] * len(ids))
        labels = nuclei.cut(Grid(0, 0, spec.size_px))
        yield row, _renumbered(labels, nuclei.ids, ids)


def _columns(nuclei: OwnNuclei, mpp: float) -> dict[str, list[Any]]:
    return {
        "x": nuclei.x.tolist(),
        "y": nuclei.y.tolist(),
        "area_um2": (nuclei.area_px * mpp**2).tolist(),
        "class": list(nuclei.classes),
        "touches_border": nuclei.touches_border.tolist(),
    }


def _renumbered(
    labels: NDArray[np.int32], before: NDArray[np.int32], after: NDArray[np.int32]
) -> NDArray[np.int32]:
    order = np.argsort(before)
    known = np.concatenate([[0], before[order]])
    numbers = np.concatenate([[0], after[order]]).astype(np.int32)
    return np.asarray(numbers[np.searchsorted(known, labels)])
