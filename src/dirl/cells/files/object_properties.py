"""What an object of a GeoJSON file says of itself: its type, its class, and the id that dirl gave it."""

import json
import re
from collections.abc import Mapping
from typing import Any

# Measurement that carries a nucleus's id through QuPath and back.
ID = "dirl id"
NUCLEI = ("cell", "detection")
OTHERS = ("annotation", "tile", "tiledetection", "tmacore", "root")
OLD_ID = re.compile(r"Path\w+|TMACoreObject")
# Properties that QuPath writes and hardly anybody else.
MARKS = ("objectType", "object_type", "isLocked", "measurements")
# Where tools other than QuPath name a class, such as TIAToolbox its ``type``; and what is no class there.
CLASS_NAMES = ("class", "class_name", "category", "cell_type", "type")
NO_CLASSES = (*NUCLEI, *OTHERS, "nucleus", "nuclei", "feature", "polygon", "multipolygon")

Feature = Mapping[str, Any]


def properties_of(feature: Feature) -> Mapping[str, Any]:
    """Properties of an object; none where they are null or something else."""
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def stated_id(properties: Mapping[str, Any]) -> int | None:
    """Id that dirl gave to a nucleus."""
    measured = _unpacked(properties.get("measurements"))
    if isinstance(measured, list):  # as QuPath wrote them before 0.4
        measured = {str(each.get("name")): each.get("value") for each in measured if isinstance(each, dict)}
    number = measured.get(ID) if isinstance(measured, dict) else None
    if isinstance(number, int | float) and 0 < number < 2**30 and number == int(number):
        return int(number)
    return None


def class_of(properties: Mapping[str, Any]) -> str | None:
    """Name of an object's class: its classification in QuPath, or what another tool calls its class or type.

    A number is called after where it was found, such as ``type 3``.
    """
    named = _unpacked(properties.get("classification"))
    if isinstance(named, dict):
        names = named.get("names")
        # Several names are what QuPath calls a derived class, written so.
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
    # JSON can hold halves of surrogate pairs, which no file that we write can.
    return found.encode(errors="replace").decode() or None


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


def by_qupath(feature: Feature) -> bool:
    """Whether QuPath wrote an object, or a tool that writes as it does."""
    properties, old = properties_of(feature), feature.get("id")
    named = _unpacked(properties.get("classification"))
    return (
        any(name in properties for name in MARKS)
        or "nucleusGeometry" in feature
        or (isinstance(named, dict) and ("colorRGB" in named or "color" in named))
        or (isinstance(old, str) and OLD_ID.fullmatch(old) is not None)
    )


def _unpacked(value: Any) -> Any:
    """Members of an object that GDAL, and so geopandas, wrote as text."""
    if not (isinstance(value, str) and value[:1] in ("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _joined(named: Any) -> str:
    return ": ".join(map(str, named)) if isinstance(named, list) else str(named or "")
