"""The objects of a GeoJSON file, of QuPath of any age and of other tools: what they are, and their outlines.

QuPath 0.2 wrote an object's class as its ``id``, 0.3 ``object_type``, 0.4 ``objectType``; a hierarchy lies in
``childObjects``.
"""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.area_check import REGIONS, regions_among
from dirl.cells.files.instanseg import around_nuclei
from dirl.cells.files.object_properties import (
    NUCLEI,
    Feature,
    by_qupath,
    class_of,
    kind_of,
    properties_of,
    stated_id,
)
from dirl.cells.files.shapes import around_many, mended, nuclei_of, polygon
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.slides.qupath_frame import marked_offset

EXPORT = "in QuPath: File, Export objects as GeoJSON"
OUTLINES = (
    f"bring the file that holds outlines (CellViT's is cells.json or cells.geojson), or export them {EXPORT}"
)
AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
POINTS = ("Point", "MultiPoint")
GEOMETRIES = (*AREAS, *POINTS, "LineString", "MultiLineString")
# QuPath's detections inside of cells.
INSIDE_CELLS = "Subcellular "


@dataclass(frozen=True)
class Objects:
    """What a file holds.

    Attributes
    ----------
    features
        The objects, those of a hierarchy one after another.
    offset_px
        What dirl said of the frame when it wrote the file; see `dirl.slides.qupath_frame.marked_offset`.
    by_qupath
        Whether QuPath's marks are on any object.
    broken
        How many entries are no objects.
    """

    features: Sequence[Feature]
    offset_px: tuple[float, float] | None
    by_qupath: bool
    broken: int


@dataclass(frozen=True)
class Drawn:
    """Outlines of nuclei, in the pixels of the file.

    Attributes
    ----------
    shapes
        Valid polygons and multipolygons with an area, shape (n,).
    properties
        Of the object that each is of.
    notes
        What was left out, split or mended, counted.
    """

    shapes: NDArray[Any]
    properties: Sequence[Mapping[str, Any]]
    notes: Mapping[str, int]


def read_content(file: Path) -> Any:
    """Parse a JSON file.

    Raises
    ------
    ConfigError
        If it is none.
    """
    with parsing(file, remedy=EXPORT, kind=ConfigError, what="cannot be read as GeoJSON"):
        # InstanSeg ends a slide's list by a comma, which QuPath reads, and no JSON has.
        return json.loads(re.sub(rb",\s*\]\s*$", b"]", file.read_bytes()))


def objects_of(content: Any, file: Path) -> Objects:
    """Take a FeatureCollection, a list of features, one feature, or a bare geometry apart.

    Raises
    ------
    ConfigError
        If it is none of these.
    """
    whole = content if isinstance(content, dict) else {}
    entries = content
    if whole.get("type") == "FeatureCollection" or isinstance(whole.get("features"), list):
        entries = whole.get("features")
    elif whole.get("type") == "Feature":
        entries = [whole]
    elif whole.get("type") in GEOMETRIES:
        entries = [{"geometry": whole}]
    if not isinstance(entries, list) or (entries and not any(isinstance(one, dict) for one in entries)):
        raise ConfigError("holds no GeoJSON features", where=file, remedy=EXPORT)
    features: list[Feature] = []
    broken = 0
    todo = entries[::-1]
    while todo:
        one = todo.pop()
        if not isinstance(one, dict):
            broken += 1
            continue
        if isinstance(one.get("features"), list):
            todo += one["features"][::-1]
            continue
        if one.get("type") in AREAS and "geometry" not in one:
            one = {"geometry": one}
        features.append(one)
        properties = properties_of(one)
        children = properties.get("childObjects", properties.get("children"))
        if isinstance(children, list):
            todo += children[::-1]
    return Objects(features, marked_offset(whole), any(map(by_qupath, features)), broken)


def draw_nuclei(objects: Objects, mpp: float, file: Path) -> Drawn:
    """Make outlines of the objects that are nuclei.

    Cells (their nucleus, where they have one) and detections are; annotations only where there is neither. A
    collection of polygons is split into its parts, unless they are parts of one nucleus; see
    `dirl.cells.files.shapes.nuclei_of`. An outline around many others is none. Objects that dirl exported are
    taken unchanged.

    Parameters
    ----------
    objects
        Of the file.
    mpp
        µm/px of its pixels.
    file
        Named in errors.

    Raises
    ------
    ConfigError
        If there are objects, and none has a sound outline.
    """
    features, notes = _nuclei(objects)
    collections = _of_classes(features)
    shapes: list[Any] = []
    owner: list[int] = []
    for i, feature in enumerate(features):
        found = _rings(_nucleus(feature) or feature.get("geometry"))
        parts = [part for rings in found if (part := polygon(rings)) is not None]
        notes["objects without an area"] += not found
        notes["objects or parts with broken coordinates, left out"] += len(found) - len(parts)
        if len(parts) > 1:
            own = stated_id(properties_of(feature)) is not None
            parts = [shapely.multipolygons(parts)] if own else nuclei_of(parts, mpp, collections)
            notes["collections, split into their parts"] += len(parts) > 1
        shapes += parts
        owner += [i] * len(parts)
    drawn, kept = _sound(np.array(shapes, object), notes)
    if objects.features and not len(drawn):
        raise ConfigError(_without_outlines(objects, features), where=file, remedy=OUTLINES)
    properties = [properties_of(features[owner[i]]) for i in kept.tolist()]
    others = np.array([stated_id(values) is None for values in properties], bool)
    twice = _repeated(drawn) & others
    regions = np.zeros(len(drawn), bool)
    once = np.flatnonzero(~twice)
    regions[once] = around_many(drawn[once]) & others[once]
    large = regions_among(shapely.area(drawn) * mpp**2) & others & ~regions & ~twice
    notes["outlines that are there twice, left out"] += int(twice.sum())
    notes["outlines around many others, left out"] += int(regions.sum())
    notes[f"outlines {REGIONS}"] += int(large.sum())
    kept = np.flatnonzero(~(twice | regions | large))
    left = {name: count for name, count in notes.items() if count}
    return Drawn(drawn[kept], [properties[i] for i in kept.tolist()], left)


def _without_outlines(objects: Objects, chosen: Sequence[Feature]) -> str:
    """Say why a file of objects holds no outline of a nucleus."""
    if not chosen:
        kinds = Counter(kind_of(feature) for feature in objects.features)
        others = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return f"holds no cells, detections or annotations, but {others}"
    geometries = [feature.get("geometry") for feature in chosen]
    points = all(isinstance(one, dict) and one.get("type") in POINTS for one in geometries)
    return f"none of its {len(chosen)} objects is a polygon with an area" + (
        ": all are points" if points else ""
    )


def _of_classes(features: Sequence[Feature]) -> bool:
    """Whether each object of a file holds all nuclei of a class, as in CellViT's."""
    classes = [class_of(properties_of(feature)) for feature in features]
    geometries = [feature.get("geometry") for feature in features]
    several = all(isinstance(one, dict) and one.get("type") == "MultiPolygon" for one in geometries)
    return several and None not in classes and len(set(classes)) == len(classes)


def _repeated(shapes: NDArray[Any]) -> NDArray[np.bool_]:
    """Which outlines, shape (n,), are the same as one before, to the last digit."""
    _, first = np.unique(np.array(shapely.to_wkb(shapes), object), return_index=True)
    return ~np.isin(np.arange(len(shapes)), first)


def _nuclei(objects: Objects) -> tuple[list[Feature], Counter[str]]:
    """Tell objects that are nuclei from what else a file holds."""
    kinds = [kind_of(feature) for feature in objects.features]
    wanted = NUCLEI if not set(NUCLEI).isdisjoint(kinds) else ("annotation",)
    chosen = [feature for feature, kind in zip(objects.features, kinds, strict=True) if kind in wanted]
    cells = around_nuclei([class_of(properties_of(feature)) for feature in chosen])
    chosen = [feature for feature, cell in zip(chosen, cells, strict=True) if not cell]
    chosen = [one for one in chosen if not (class_of(properties_of(one)) or "").startswith(INSIDE_CELLS)]
    whole = kinds.count("cell") - sum(bool(_nucleus(feature)) for feature in chosen)
    notes = Counter(
        {
            "objects that are not nuclei": len(kinds) - len(chosen),
            "cells without a nucleus, taken whole": max(whole, 0),
            "entries that are no objects": objects.broken,
        }
    )
    return chosen, notes


def _nucleus(feature: Feature) -> Any:
    return feature.get("nucleusGeometry") or properties_of(feature).get("nucleusGeometry")


def _rings(geometry: Any) -> list[Any]:
    """Rings of every polygon of a geometry that is not empty, whatever they are."""
    found: list[Any] = []
    todo = [geometry]
    while todo:
        one = todo.pop()
        if not isinstance(one, dict):
            continue
        inside = one.get("geometries" if one.get("type") == "GeometryCollection" else "coordinates")
        if one.get("type") == "Polygon":
            found.append(inside)
        elif one.get("type") == "MultiPolygon":
            found += inside if isinstance(inside, list) else [inside]
        elif one.get("type") == "GeometryCollection" and isinstance(inside, list):
            todo += inside[::-1]
    return [rings for rings in found if rings != []]


def _sound(shapes: NDArray[Any], notes: Counter[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Outlines with an area, mended where they crossed themselves, and which they were."""
    unclear = np.zeros(len(shapes), bool)
    crossed = np.flatnonzero(~shapely.is_valid(shapes))
    flat = shapely.area(shapes) == 0
    for i in crossed.tolist():
        whole = mended(shapes[i])
        flat[i] = whole is not None and whole.area == 0
        unclear[i] = whole is None
        shapes[i] = whole
    notes["objects without an area"] += int(flat.sum())
    notes["outlines that cross themselves, left out"] += int(unclear.sum())
    notes["outlines that crossed themselves, mended"] += len(crossed) - int((flat | unclear)[crossed].sum())
    kept = np.flatnonzero(~(flat | unclear))
    return shapes[kept], kept
