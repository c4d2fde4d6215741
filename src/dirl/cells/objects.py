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

from dirl.boundary import parsing
from dirl.cells.instanseg import around_nuclei
from dirl.cells.shapes import around_many, mended, nuclei_of, polygon
from dirl.errors import ConfigError
from dirl.qupath import marked_offset

EXPORT = "in QuPath: File, Export objects as GeoJSON"
# Measurement that carries a nucleus's id through QuPath and back.
ID = "dirl id"
GEOMETRIES = ("Point", "MultiPoint", "LineString", "MultiLineString", "Polygon", "MultiPolygon")
NUCLEI = ("cell", "detection")
OTHERS = ("annotation", "tile", "tiledetection", "tmacore", "root")
OLD_ID = re.compile(r"Path\w+|TMACoreObject")
# Properties that QuPath writes and hardly anybody else.
MARKS = ("objectType", "object_type", "isLocked", "measurements")

Feature = Mapping[str, Any]


@dataclass(frozen=True)
class Objects:
    """What a file holds.

    Attributes
    ----------
    features
        The objects, those of a hierarchy one after another.
    offset_px
        What dirl said of the frame when it wrote the file; see `dirl.qupath.marked_offset`.
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
    elif whole.get("type") in (*GEOMETRIES, "GeometryCollection"):
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
        features.append(one)
        properties = properties_of(one)
        children = properties.get("childObjects", properties.get("children"))
        if isinstance(children, list):
            todo += children[::-1]
    return Objects(features, marked_offset(whole), any(map(_by_qupath, features)), broken)


def draw_nuclei(objects: Objects, mpp: float, file: Path) -> Drawn:
    """Make outlines of the objects that are nuclei.

    Cells (their nucleus, where they have one) and detections are; annotations only where there is neither. A
    collection of polygons is split into its parts, unless they are parts of one nucleus; see
    `dirl.cells.shapes.nuclei_of`. An outline around many others is none. What dirl exported is taken as it
    is.

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
    shapes: list[Any] = []
    owner: list[int] = []
    for i, feature in enumerate(features):
        found = _rings(_nucleus(feature) or feature.get("geometry"))
        parts = [part for rings in found if (part := polygon(rings)) is not None]
        notes["objects without an area"] += not found
        notes["objects or parts with broken coordinates, left out"] += len(found) - len(parts)
        if len(parts) > 1:
            own = stated_id(properties_of(feature)) is not None
            parts = [shapely.multipolygons(parts)] if own else nuclei_of(parts, mpp)
            notes["collections, split into their parts"] += len(parts) > 1
        shapes += parts
        owner += [i] * len(parts)
    drawn, kept = _sound(np.array(shapes, object), notes)
    if features and not len(drawn):
        raise ConfigError(
            f"none of its {len(features)} objects is a polygon with an area",
            where=file,
            remedy=f"bring the file that holds outlines, or export them {EXPORT}",
        )
    properties = [properties_of(features[owner[i]]) for i in kept.tolist()]
    regions = around_many(drawn) & np.array([stated_id(values) is None for values in properties], bool)
    notes["outlines around many others, left out"] += int(regions.sum())
    properties = [values for values, left in zip(properties, regions, strict=True) if not left]
    return Drawn(drawn[~regions], properties, {name: count for name, count in notes.items() if count})


def properties_of(feature: Feature) -> Mapping[str, Any]:
    """Properties of an object; none where they are null or something else."""
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def stated_id(properties: Mapping[str, Any]) -> int | None:
    """Id that dirl gave to a nucleus."""
    measured = properties.get("measurements")
    if isinstance(measured, list):  # as QuPath wrote them before 0.4
        measured = {str(each.get("name")): each.get("value") for each in measured if isinstance(each, dict)}
    number = measured.get(ID) if isinstance(measured, dict) else None
    if isinstance(number, int | float) and 0 < number < 2**30 and number == int(number):
        return int(number)
    return None


def class_of(properties: Mapping[str, Any]) -> str | None:
    """Name of an object's class."""
    named = properties.get("classification")
    if isinstance(named, dict):
        names = named.get("names")
        # Several names are what QuPath calls a derived class, written so.
        named = named.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else None)
    # JSON can hold halves of surrogate pairs, which no file that we write can.
    return str(named).encode(errors="replace").decode() if named else None


def kind_of(feature: Feature) -> str:
    """What an object is: one of `NUCLEI` and `OTHERS`; as in QuPath an annotation where nothing says it."""
    properties, old = properties_of(feature), feature.get("id")
    for stated in (
        properties.get("objectType"),
        properties.get("object_type"),
        old if isinstance(old, str) and OLD_ID.fullmatch(old) else None,
        properties.get("type"),
    ):
        name = re.sub(r"[^a-z]|^path|object$", "", stated.lower()) if isinstance(stated, str) else None
        if name in NUCLEI + OTHERS:
            return name
    return "annotation"


def _by_qupath(feature: Feature) -> bool:
    properties, old = properties_of(feature), feature.get("id")
    named = properties.get("classification")
    return (
        any(name in properties for name in MARKS)
        or "nucleusGeometry" in feature
        or (isinstance(named, dict) and ("colorRGB" in named or "color" in named))
        or (isinstance(old, str) and OLD_ID.fullmatch(old) is not None)
    )


def _nuclei(objects: Objects) -> tuple[list[Feature], Counter[str]]:
    """Tell objects that are nuclei from what else a file holds."""
    kinds = [kind_of(feature) for feature in objects.features]
    wanted = NUCLEI if not set(NUCLEI).isdisjoint(kinds) else ("annotation",)
    chosen = [feature for feature, kind in zip(objects.features, kinds, strict=True) if kind in wanted]
    cells = around_nuclei([class_of(properties_of(feature)) for feature in chosen])
    chosen = [feature for feature, cell in zip(chosen, cells, strict=True) if not cell]
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
