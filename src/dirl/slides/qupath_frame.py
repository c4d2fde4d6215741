"""The mark in dirl's GeoJSON files that says where QuPath's coordinates begin on the slide."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

MARK = "dirl"


def mark(offset_px: tuple[float, float]) -> dict[str, Any]:
    """Member of a FeatureCollection that says that its coordinates are QuPath's, and where they begin."""
    return {MARK: {"frame": "qupath", "offset_px": list(offset_px)}}


def marked_offset(content: Mapping[str, Any]) -> tuple[float, float] | None:
    """Read what `mark` wrote, in level-0 pixels; None where there is nothing, or nothing sound."""
    stated = content.get(MARK)
    offset = stated.get("offset_px") if isinstance(stated, dict) else None
    if not (isinstance(offset, list) and len(offset) == 2):
        return None
    if not all(isinstance(value, int | float) and abs(value) < 2**31 and isfinite(value) for value in offset):
        return None
    return float(offset[0]), float(offset[1])
