"""Nuclei as QuPath has them: ``geojson:DIR``, a file of objects for each slide or for each tile."""

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from dirl.card import digest
from dirl.cells.own_files import OwnNuclei, check_place, source_files
from dirl.cells.polygons import Outlines, outlines
from dirl.errors import ConfigError
from dirl.store.dataset import TileStore

SUFFIXES = (".geojson", ".json")
# Measurement that carries a nucleus's id through QuPath and back.
ID = "dirl id"
EXPORT = "in QuPath: File, Export objects as GeoJSON"
# A median outside of these is no nucleus's: coordinates of another resolution, or other objects.
NUCLEUS_UM2 = (8.0, 600.0)


@dataclass(frozen=True)
class GeoJSON:
    """QuPath objects in a folder, in files named as slides or tiles; see `dirl.cells.own_files.source_files`.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide. Coordinates are pixels of level 0, of ready-made
        tiles pixels of the tile. Cells (their nuclei, where they have any) and detections are taken;
        annotations only where there is neither.
    """

    place: str

    def __post_init__(self) -> None:
        check_place(self.place)

    @property
    def digest(self) -> str:
        """Always the same: there are no settings."""
        return digest({"source": "geojson"})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.own_files.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file of objects; see `dirl.cells.own_files.CellSource`."""
        features, notes = _nuclei(_features(file))
        shapes, kept, counts = _shapes(features, file)
        notes |= counts
        lines = shapely.bounds(shapes)
        outside = (lines[:, :2] >= size_px).any(1) | (lines[:, 2:] <= 0).any(1)
        if len(shapes) and outside.all():
            raise ConfigError(
                f"all {len(shapes)} objects lie outside the image of {size_px[0]}×{size_px[1]} px",
                where=file,
                remedy=f"coordinates are pixels of level 0, as they are when exported {EXPORT}",
            )
        if len(shapes):
            _check_scale(shapes, size_px, mpp, file)
        if outside.any():
            notes["outside the image"] = int(outside.sum())
        shapes, lines = shapes[~outside], lines[~outside]
        properties = [features[i].get("properties") or {} for i in kept[~outside]]
        ids = _ids(properties)
        centres = shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2)
        return OwnNuclei(
            ids=ids,
            x=centres[:, 0],
            y=centres[:, 1],
            area_px=shapely.area(shapes),
            touches_border=(lines[:, :2] <= 0).any(1) | (lines[:, 2:] >= size_px).any(1),
            classes=[_class(values) for values in properties],
            cut=outlines(ids, shapes).cut,
            notes=notes,
        )


def read_outlines(file: Path) -> Outlines:
    """Read the outlines of a file, with the ids that they have when it is read as nuclei.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    features, _ = _nuclei(_features(file))
    shapes, kept, _ = _shapes(features, file)
    return outlines(_ids(features[i].get("properties") or {} for i in kept), shapes)


def _features(file: Path) -> list[dict[str, Any]]:
    """Objects of a file: a FeatureCollection, a list of features, or one."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read as GeoJSON ({error})", where=file, remedy=EXPORT) from None
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict) and content.get("type") == "Feature":
        content = [content]
    if not isinstance(content, list) or not all(isinstance(feature, dict) for feature in content):
        raise ConfigError("holds no GeoJSON features", where=file, remedy=EXPORT)
    return content


def _nuclei(features: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Tell objects that are nuclei from what else a file holds."""
    kinds = [str((feature.get("properties") or {}).get("objectType", "annotation")) for feature in features]
    wanted = {"cell", "detection"} if {"cell", "detection"} & set(kinds) else {"annotation"}
    chosen = [feature for feature, kind in zip(features, kinds, strict=True) if kind in wanted]
    left = len(features) - len(chosen)
    whole = sum(kind == "cell" for kind in kinds) - sum(_nucleus(feature) is not None for feature in chosen)
    counts = {"objects that are not nuclei": left, "cells without a nucleus, taken whole": max(whole, 0)}
    return chosen, {name: count for name, count in counts.items() if count}


def _nucleus(feature: Mapping[str, Any]) -> Any:
    return feature.get("nucleusGeometry") or (feature.get("properties") or {}).get("nucleusGeometry")


def _shapes(
    features: Sequence[Mapping[str, Any]], file: Path
) -> tuple[NDArray[Any], NDArray[np.int64], dict[str, int]]:
    """Valid polygons or multipolygons, the feature that each is of, and what was mended or left out."""
    found, kept = [], []
    no_area = 0
    for i, feature in enumerate(features):
        geometry = _nucleus(feature) or feature.get("geometry")
        try:
            outline = None if geometry is None else shape(geometry)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, shapely.errors.ShapelyError):
            outline = None
        if outline is None or outline.geom_type not in ("Polygon", "MultiPolygon") or outline.is_empty:
            no_area += 1
            continue
        found.append(outline)
        kept.append(i)
    if no_area and not found:
        raise ConfigError(f"none of its {no_area} objects is a polygon", where=file, remedy=EXPORT)
    shapes = np.array(found, object)
    bad = ~shapely.is_valid(shapes)
    for i in np.flatnonzero(bad).tolist():
        parts = shapely.get_parts(shapely.make_valid(shapes[i]))
        areas = [part for part in parts if part.geom_type in ("Polygon", "MultiPolygon")]
        shapes[i] = shapely.union_all(areas)
    flat = shapely.area(shapes) == 0
    counts = {
        "objects without an area": no_area + int(flat.sum()),
        "outlines that crossed themselves, mended": int((bad & ~flat).sum()),
    }
    counts = {name: count for name, count in counts.items() if count}
    return shapes[~flat], np.array(kept, np.int64)[~flat], counts


def _check_scale(shapes: NDArray[Any], size_px: tuple[int, int], mpp: float, file: Path) -> None:
    """Tell coordinates in µm, or of another resolution, from those of level 0."""
    area = float(np.median(shapely.area(shapes)))
    least, most = NUCLEUS_UM2
    if least <= area * mpp**2 <= most:
        return
    right, bottom = shapely.total_bounds(shapes)[2:]
    in_um = right <= size_px[0] * mpp * 1.01 and bottom <= size_px[1] * mpp * 1.01
    if mpp < 0.9 and in_um and least <= area <= most:
        raise ConfigError(
            f"coordinates look like µm: all objects lie in the first {right:.0f}×{bottom:.0f} of "
            f"{size_px[0]}×{size_px[1]} px, and their median area would be {area * mpp**2:.2g} µm²",
            where=file,
            remedy=f"coordinates are pixels of level 0, so divide them by {mpp:g}, or export them {EXPORT}",
        )
    warnings.warn(
        f"{file}: the median area is {area * mpp**2:.3g} µm², which no nucleus has — "
        f"are the coordinates pixels of level 0, at {mpp:g} µm/px, and the objects nuclei?",
        stacklevel=2,
    )


def _class(properties: Mapping[str, Any]) -> str | None:
    named = properties.get("classification")
    if not isinstance(named, dict):
        return str(named) if named else None
    # Several names are what QuPath calls a derived class, written so.
    name = named.get("name") or ": ".join(map(str, named.get("names") or ()))
    return str(name) if name else None


def _ids(properties: Iterable[Mapping[str, Any]]) -> NDArray[np.int32]:
    """Ids that dirl gave, where nothing else has the same; the others are numbered on from the largest."""
    stated = [_stated_id(values) for values in properties]
    ids = np.zeros(len(stated), np.int32)
    used: set[int] = set()
    for i, number in enumerate(stated):
        if number is not None and number not in used:
            ids[i] = number
            used.add(number)
    new = np.flatnonzero(ids == 0)
    ids[new] = max(used, default=0) + 1 + np.arange(len(new))
    return ids


def _stated_id(properties: Mapping[str, Any]) -> int | None:
    measured = properties.get("measurements") or {}
    if isinstance(measured, list):  # as QuPath wrote them before 0.4
        measured = {str(each.get("name")): each.get("value") for each in measured if isinstance(each, dict)}
    number = measured.get(ID)
    if isinstance(number, int | float) and float(number).is_integer() and 0 < number < 2**30:
        return int(number)
    return None
