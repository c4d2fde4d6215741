"""The objects of a GeoJSON file of QuPath 0.2 or later, or of another tool, as typed features.

QuPath 0.2 wrote an object's type as its ``id``, 0.3 as ``object_type``, 0.4 as ``objectType``. A hierarchy is
stored in ``childObjects``.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.slides.qupath_frame import marked_offset

EXPORT = "in QuPath: File, Export objects as GeoJSON"
# Measurement that carries a nucleus's id through QuPath and back.
ID = "dirl id"
Kind = Literal["cell", "detection", "annotation", "tile", "tiledetection", "tmacore", "root"]
NUCLEI: tuple[Kind, ...] = ("cell", "detection")
OTHERS: tuple[Kind, ...] = ("annotation", "tile", "tiledetection", "tmacore", "root")
OLD_ID = re.compile(r"Path\w+|TMACoreObject")
# Properties that QuPath writes, and hardly any other tool.
MARKS = ("objectType", "object_type", "isLocked", "measurements")
# Properties in which other tools name a class, such as TIAToolbox its ``type``; and values that are not one.
CLASS_NAMES = ("class", "class_name", "category", "cell_type", "type")
NO_CLASSES = (*NUCLEI, *OTHERS, "nucleus", "nuclei", "feature", "polygon", "multipolygon")
AREAS = ("Polygon", "MultiPolygon", "GeometryCollection")
POINTS = ("Point", "MultiPoint")
GEOMETRIES = (*AREAS, *POINTS, "LineString", "MultiLineString")

Members = Mapping[str, Any]


@dataclass(frozen=True)
class Feature:
    """One object of a file.

    Attributes
    ----------
    kind
        One of `NUCLEI` and `OTHERS`. As in QuPath, an object without a type is an annotation.
    dirl_id
        Id that dirl gave to the nucleus; None for other objects.
    by_qupath
        Whether QuPath wrote it, or a tool that writes the same properties.
    polygons
        Rings of each polygon of its nucleus, or else of its geometry, as in the file. They may be invalid.
    has_nucleus
        Whether it is a cell with the outline of its nucleus.
    """

    kind: Kind
    class_name: str | None
    dirl_id: int | None
    by_qupath: bool
    geometry_type: str | None
    polygons: Sequence[Any]
    has_nucleus: bool


@dataclass(frozen=True)
class FeatureFile:
    """The objects of a file, those of a hierarchy one after another.

    Attributes
    ----------
    offset_px
        Offset of QuPath's frame that dirl wrote; see `dirl.slides.qupath_frame.marked_offset`.
    broken
        Number of entries that are not objects.
    """

    features: Sequence[Feature]
    offset_px: tuple[float, float] | None
    broken: int

    @property
    def by_qupath(self) -> bool:
        """Whether any object has QuPath's marks."""
        return any(feature.by_qupath for feature in self.features)


def read_content(file: Path) -> Any:
    """Parse a user's GeoJSON file, or raise a `ConfigError`."""
    with parsing(file, remedy=EXPORT, kind=ConfigError, what="cannot be read as GeoJSON"):
        # InstanSeg ends a slide's list with a comma, which QuPath accepts and JSON does not.
        return json.loads(re.sub(rb",\s*\]\s*$", b"]", file.read_bytes()))


def parse_features(content: Any, file: Path) -> FeatureFile:
    """Parse a FeatureCollection, a list of features, one feature, or a bare geometry.

    Any other content is a `ConfigError`.
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
        features.append(_feature(one))
        properties = _properties(one)
        children = properties.get("childObjects", properties.get("children"))
        if isinstance(children, list):
            todo += children[::-1]
    return FeatureFile(features, marked_offset(whole), broken)


def _feature(members: Members) -> Feature:
    properties = _properties(members)
    nucleus = members.get("nucleusGeometry") or properties.get("nucleusGeometry")
    geometry = members.get("geometry")
    geometry_type = geometry.get("type") if isinstance(geometry, dict) else None
    return Feature(
        kind=_kind(members, properties),
        class_name=_class_name(properties),
        dirl_id=_dirl_id(properties),
        by_qupath=_by_qupath(members, properties),
        geometry_type=geometry_type if isinstance(geometry_type, str) else None,
        polygons=_polygons(nucleus or geometry),
        has_nucleus=bool(nucleus),
    )


def _properties(members: Members) -> Members:
    """Properties of an object; empty if they are null or not an object."""
    found = members.get("properties")
    return found if isinstance(found, dict) else {}


def _dirl_id(properties: Members) -> int | None:
    measured = _unpacked(properties.get("measurements"))
    if isinstance(measured, list):  # as QuPath wrote them before 0.4
        measured = {str(each.get("name")): each.get("value") for each in measured if isinstance(each, dict)}
    number = measured.get(ID) if isinstance(measured, dict) else None
    if isinstance(number, int | float) and 0 < number < 2**30 and number == int(number):
        return int(number)
    return None


def _class_name(properties: Members) -> str | None:
    """Name of the classification in QuPath, or of the class or type that another tool wrote.

    The name of a number says where it was found, such as ``type 3``.
    """
    named = _unpacked(properties.get("classification"))
    if isinstance(named, dict):
        names = named.get("names")
        # Several names are what QuPath calls a derived class; QuPath joins them in the same way.
        named = named.get("name") or (names if isinstance(names, list) else None)
    found = _joined(named)
    for where in CLASS_NAMES:
        value = properties.get(where)
        if found or value is None or isinstance(value, bool | dict):
            continue
        if isinstance(value, int | float):
            found = f"{where} {value:g}"
        elif str(value).lower() not in NO_CLASSES:
            found = _joined(value)
    # JSON can hold halves of surrogate pairs, which cannot be written to a file.
    return found.encode(errors="replace").decode() or None


def _kind(members: Members, properties: Members) -> Kind:
    old = members.get("id")
    for named in (
        properties.get("objectType"),
        properties.get("object_type"),
        old if isinstance(old, str) and OLD_ID.fullmatch(old) else None,
        properties.get("type"),
    ):
        name = re.sub(r"[^a-z]|^path|object$", "", named.lower()) if isinstance(named, str) else None
        for kind in NUCLEI + OTHERS:
            if name == kind:
                return kind
    return "annotation"


def _by_qupath(members: Members, properties: Members) -> bool:
    old = members.get("id")
    named = _unpacked(properties.get("classification"))
    return (
        any(name in properties for name in MARKS)
        or "nucleusGeometry" in members
        or (isinstance(named, dict) and ("colorRGB" in named or "color" in named))
        or (isinstance(old, str) and OLD_ID.fullmatch(old) is not None)
    )


def _polygons(geometry: Any) -> list[Any]:
    """Rings of every polygon of a geometry, without empty polygons; other values are kept."""
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


def _unpacked(value: Any) -> Any:
    """Parse members that GDAL, and so geopandas, wrote as text."""
    if not (isinstance(value, str) and value[:1] in ("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _joined(named: Any) -> str:
    return ": ".join(map(str, named)) if isinstance(named, list) else str(named or "")
