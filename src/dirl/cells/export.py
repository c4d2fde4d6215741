"""`dirl cells-export`: a store's cells as QuPath objects, in GeoJSON files."""

import json
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dirl.cells.files.frames import bounds_of
from dirl.cells.source import PixelGrid, tile_grid
from dirl.core.boundary import inside
from dirl.core.card import new_card
from dirl.core.digests import digest
from dirl.core.errors import ConfigError, DirlError, DirlWarning, PartlyFailedError, as_dirl_error
from dirl.core.files import no_room, read_json, write_json, write_text
from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.core.results import Record, Result, Summary
from dirl.core.stage import Work, carry_out
from dirl.report.style import COLOURS
from dirl.slides.qupath_frame import mark
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import INDEX

NAMESPACE = uuid.UUID("5a2f6c58-4a76-4d0c-9e0b-6f1d1c6f0d11")
# Runs of equal ids: id, row, first column, and the column after the last.
Runs = NDArray[np.int64]


class Exported(Record):
    """What was written of a slide, or of all.

    Attributes
    ----------
    pixels_that_differ
        Pixels with another label when the files are read back. They differ if overlapping tiles do not lie on
        one grid, and have other labels there.
    """

    files: int
    nuclei: int
    pixels_that_differ: int


class ExportSummary(Summary):
    """What `dirl cells-export` writes to ``summary.json``.

    Attributes
    ----------
    all
        The sum of the slides.
    failed
        Number of slides that failed; only the card has it.
    """

    all: Exported
    slides: dict[str, Exported]
    failed: int = Field(default=0, exclude=True)

    @property
    def counts(self) -> dict[str, object]:
        """Slides, files, nuclei, and pixels that differ."""
        return {"slides": len(self.slides), **self.all.to_json(), "failed": self.failed}

    def rows(self) -> list[dict[str, object]]:
        """One row for each slide."""
        return [{"slide": name, **one.to_json()} for name, one in self.slides.items()]


def cells_export(
    store: Path,
    out: Path,
    *,
    segmenter: str = "hematoxylin",
    to: str = "geojson",
    workers: int = 1,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[ExportSummary]:
    """Write a store's cells for QuPath, and for `dirl cells --segmenter geojson:DIR`.

    A slide becomes ``SLIDE.geojson``, in pixels of level 0 from the corner of QuPath's image. The file's
    member ``dirl`` holds the offset of that corner. A ready-made tile becomes ``CLASS/TILE.geojson``, in
    pixels of the tile.

    Every nucleus is a detection with its class, its area and centroid in µm, and its id. Outlines run along
    the edges of the tiles' pixels, with holes and parts. A nucleus is cut at the border of the tiles, and
    left out if it lies outside. Every file is read back and compared with the store.

    Parameters
    ----------
    store
        Tile store.
    out
        Directory to write to.
    segmenter
        Name of the cells in the store.
    to
        ``geojson``.
    workers
        Number of processes; each works on one slide at a time.
    overwrite
        Replace an export with other settings.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If the format does not exist, or shapely is missing.
    StoreError
        If the store has no such cells.
    PartlyFailedError
        If some slides failed; the others are written.
    """
    if to != "geojson":
        raise ConfigError(f"cannot write {to!r}", where="dirl cells-export --to", remedy="write geojson")
    _require_shapely()
    tiles = TileStore.open(store)
    cells = tiles.cells(segmenter)
    settings = {"to": to, "cells": segmenter, "frame": "qupath"}
    inputs = {"store": tiles.digest, "cells": digest(cells.path / INDEX)}
    failures: dict[str, DirlError] = {}

    def compute(work: Work) -> ExportSummary:
        todo = [name for name in tiles.slides if not _note(out, name).is_file()]
        corners = {name: _corner(tiles, name) for name in todo}
        with bar("Writing outlines", len(tiles.slides), quiet=quiet) as advance:
            advance(len(tiles.slides) - len(todo))
            for name, result in each(partial(_write, cells, tiles, out, corners), todo, workers):
                if isinstance(result, Exception):
                    if no_room(result):
                        raise result
                    failures[name] = as_dirl_error(result)
                advance(note=name)
        done = [name for name in tiles.slides if name not in failures]
        slides = {name: Exported.model_validate(read_json(_note(out, name))) for name in done}
        return ExportSummary(all=_total(slides.values()), slides=slides, failed=len(failures))

    card = new_card("cells-export", settings, inputs)
    # A finished export is completed if slides failed.
    result = carry_out(card, out, ExportSummary, compute, overwrite=overwrite, again=True)
    if failures:
        raise PartlyFailedError(failures, len(result.summary.slides))
    return result


def _total(slides: Iterable[Exported]) -> Exported:
    listed = list(slides)
    return Exported(
        files=sum(one.files for one in listed),
        nuclei=sum(one.nuclei for one in listed),
        pixels_that_differ=sum(one.pixels_that_differ for one in listed),
    )


def _corner(tiles: TileStore, slide_id: str) -> tuple[int, int]:
    """Corner of QuPath's image on a slide, in level-0 pixels."""
    bounds = bounds_of(tiles.slides[slide_id])
    if bounds is None:
        warnings.warn(
            f"{slide_id}: the store does not record whether QuPath crops the slide, and the slide is "
            "missing. If QuPath does, outlines are shifted there: make the store again with `dirl tile`",
            category=DirlWarning,
            stacklevel=3,
        )
        return 0, 0
    return bounds[:2]


def _write(
    cells: CellStore, tiles: TileStore, out: Path, corners: Mapping[str, tuple[int, int]], slide_id: str
) -> None:
    """Write a slide's files, and then the note that they are finished."""
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id).tolist()
    table = cells.nuclei(slide_id).to_pydict()
    nuclei = {
        number: {name: values[i] for name, values in table.items()} for i, number in enumerate(table["id"])
    }
    step, corner = tiles.spec.mpp / record.mpp, corners[slide_id]
    note = {"files": 0, "nuclei": 0, "pixels_that_differ": 0}
    for file, group in _files(tiles, slide_id, rows):
        grids = [tile_grid(tiles, row) for row in group]
        runs = np.concatenate([_runs(cells.labels(row), at) for row, at in zip(group, grids, strict=True)])
        features = list(_features(runs, step, nuclei, record.mpp, slide_id, corner))
        write_text(
            inside(out, str(file)), _collection(features, mark(corner) if record.kind == "slide" else {})
        )
        note["files"] += 1
        note["nuclei"] += len(features)
        note["pixels_that_differ"] += _differences(cells, out / file, group, grids, record.mpp)
    write_json(_note(out, slide_id), note)


def _note(out: Path, slide_id: str) -> Path:
    return out / ".finished" / f"{slide_id}.json"


def _files(tiles: TileStore, slide_id: str, rows: Sequence[int]) -> Iterator[tuple[Path, Sequence[int]]]:
    """Names of the files of a slide, and the tiles of each."""
    if tiles.slides[slide_id].kind == "slide":
        yield Path(f"{slide_id}.geojson"), rows
        return
    for row in rows:
        yield Path(f"{tiles.index['tile_id'][row].as_py()}.geojson"), [row]


def _runs(labels: NDArray[np.int32], grid: PixelGrid) -> Runs:
    """Runs of equal ids in the lines of a tile, shape (runs, 4)."""
    padded = np.pad(labels, ((0, 0), (1, 1)))
    row, column = np.nonzero(padded[:, 1:] != padded[:, :-1])
    # A line has one id between two changes.
    same = row[1:] == row[:-1]
    ids = labels[row[:-1][same], column[:-1][same]]
    row, first, end = row[:-1][same] + grid.row, column[:-1][same], column[1:][same]
    runs = np.stack([ids, row, first + grid.column, end + grid.column], 1)
    return np.asarray(runs[ids > 0], np.int64)


def _features(
    runs: Runs,
    step: float,
    nuclei: Mapping[int, Mapping[str, Any]],
    mpp: float,
    slide_id: str,
    corner: tuple[int, int],
) -> Iterator[dict[str, Any]]:
    import shapely

    from dirl.cells.geometry.rasterize import mask_polygon

    if not len(runs):
        return
    runs = runs[np.argsort(runs[:, 0], kind="stable")]
    ids, first = np.unique(runs[:, 0], return_index=True)
    colours = _colours({nucleus["class"] for nucleus in nuclei.values()})
    for number, pixels in zip(ids.tolist(), np.split(runs[:, 1:], first[1:]), strict=True):
        top, left, right = pixels[:, 0].min(), pixels[:, 1].min(), pixels[:, 2].max()
        mask = np.zeros((pixels[:, 0].max() - top + 1, right - left), bool)
        for row, start, end in pixels - (top, left, left):
            mask[row, start:end] = True
        outline = mask_polygon(mask, int(top), int(left))
        geometry = json.loads(shapely.to_geojson(shapely.transform(outline, lambda at: at * step - corner)))
        yield _feature(number, geometry, nuclei[number], mpp, slide_id, colours, corner)


def _feature(
    number: int,
    geometry: dict[str, Any],
    nucleus: Mapping[str, Any],
    mpp: float,
    slide_id: str,
    colours: Mapping[str, list[int]],
    corner: tuple[int, int],
) -> dict[str, Any]:
    from dirl.cells.files.geojson_features import ID

    name = nucleus["class"]
    classification = {"classification": {"name": name, "color": colours[name]}} if name else {}
    return {
        "type": "Feature",
        # QuPath requires an identifier of this form. A nucleus has the same in every export.
        "id": str(uuid.uuid5(NAMESPACE, f"{slide_id} {number}")),
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            **classification,
            "measurements": {
                ID: number,
                "Area µm^2": round(nucleus["area_um2"], 3),
                "Centroid X µm": round((nucleus["x"] - corner[0]) * mpp, 3),
                "Centroid Y µm": round((nucleus["y"] - corner[1]) * mpp, 3),
            },
        },
    }


def _colours(classes: set[str | None]) -> dict[str, list[int]]:
    return {
        name: [int(COLOURS[i % len(COLOURS)][k : k + 2], 16) for k in (1, 3, 5)]
        for i, name in enumerate(sorted(name for name in classes if name))
    }


def _collection(features: Sequence[dict[str, Any]], about: Mapping[str, Any]) -> str:
    """Text with one feature per line, so that files can be compared by line."""
    lines = ",\n".join(json.dumps(feature, ensure_ascii=False, separators=(",", ":")) for feature in features)
    first = json.dumps({"type": "FeatureCollection", **about}, separators=(",", ":"))
    return first[:-1] + ',"features":[\n' + lines + "\n]}\n"


def _differences(
    cells: CellStore,
    file: Path,
    rows: Sequence[int],
    grids: Sequence[PixelGrid],
    mpp: float,
) -> int:
    """Count the pixels of tiles whose labels differ when the file is read back."""
    from dirl.cells.files.geojson import read_exported

    polygons = read_exported(file, mpp)
    differ = 0
    for row, grid in zip(rows, grids, strict=True):
        differ += int((polygons.cut(grid) != cells.labels(row)).sum())
    return differ


def _require_shapely() -> None:
    try:
        import shapely  # noqa: F401
    except ImportError:
        raise ConfigError(
            "GeoJSON needs shapely", where="dirl cells-export", remedy="pip install 'dirl[geojson]'"
        ) from None
