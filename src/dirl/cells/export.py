"""`dirl cells-export`: a store's cells as QuPath objects, in GeoJSON files."""

import json
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
    cells: str = "hematoxylin",
    to: Literal["geojson"] = "geojson",
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
    cells
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
    found = tiles.cells(cells)
    settings = {"to": to, "cells": cells, "frame": "qupath"}
    inputs = {"store": tiles.digest, "cells": digest(found.path / INDEX)}
    failures: dict[str, DirlError] = {}

    def compute(work: Work) -> ExportSummary:
        todo = [name for name in tiles.slides if not _note(out, name).is_file()]
        corners = {name: _corner(tiles, name) for name in todo}
        with bar("Writing outlines", len(tiles.slides), quiet=quiet) as advance:
            advance(len(tiles.slides) - len(todo))
            for name, result in each(partial(_write, found, tiles, out, corners), todo, workers):
                if isinstance(result, Exception):
                    if no_room(result):
                        raise result
                    failures[name] = as_dirl_error(result)
                advance(note=name)
        done = [name for name in tiles.slides if name not in failures]
        slides = {name: Exported.model_validate(read_json(_note(out, name))) for name in done}
        return ExportSummary(all=_total(list(slides.values())), slides=slides, failed=len(failures))

    card = new_card("cells-export", settings, inputs)
    # A finished export is completed if slides failed.
    result = carry_out(card, out, ExportSummary, compute, overwrite=overwrite, again=True)
    if failures:
        raise PartlyFailedError(failures, len(result.summary.slides))
    return result


def _total(slides: Sequence[Exported]) -> Exported:
    return Exported(**{name: sum(getattr(one, name) for one in slides) for name in Exported.model_fields})


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
    from dirl.cells.files.geojson import read_exported

    record, corner = tiles.slides[slide_id], corners[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id).tolist()
    table = cells.nuclei(slide_id).to_pydict()
    nuclei = {
        number: {name: values[i] for name, values in table.items()} for i, number in enumerate(table["id"])
    }
    if record.kind == "slide":
        files, about = {slide_id: rows}, mark(corner)
    else:
        files, about = {str(tiles.tile_ids[row]): [row] for row in rows}, {}
    note = Counter(dict.fromkeys(Exported.model_fields, 0))
    for name, group in files.items():
        grids = [tile_grid(tiles, row) for row in group]
        runs = np.concatenate([_runs(cells.labels(row), at) for row, at in zip(group, grids, strict=True)])
        features = list(_features(runs, tiles.spec.mpp / record.mpp, nuclei, record.mpp, slide_id, corner))
        file = inside(out, f"{name}.geojson")
        write_text(file, _collection(features, about))
        polygons = read_exported(file, record.mpp)
        differ = sum(
            int((polygons.cut(grid) != cells.labels(row)).sum())
            for row, grid in zip(group, grids, strict=True)
        )
        note.update(files=1, nuclei=len(features), pixels_that_differ=differ)
    write_json(_note(out, slide_id), dict(note))


def _note(out: Path, slide_id: str) -> Path:
    return out / ".finished" / f"{slide_id}.json"


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
    """QuPath's objects of the nuclei that have runs of pixels, whose side is `step` px of level 0."""
    import shapely

    from dirl.cells.files.geojson_features import ID
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
        nucleus = nuclei[number]
        name = nucleus["class"]
        classification = {"classification": {"name": name, "color": colours[name]}} if name else {}
        yield {
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


def _require_shapely() -> None:
    try:
        import shapely  # noqa: F401
    except ImportError:
        raise ConfigError(
            "GeoJSON needs shapely", where="dirl cells-export", remedy="pip install 'dirl[geojson]'"
        ) from None
