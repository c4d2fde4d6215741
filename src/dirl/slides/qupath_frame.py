"""The mark in dirl's GeoJSON files: the place of QuPath's origin on the slide."""

from collections.abc import Mapping
from math import isfinite
from typing import Any

MARK = "dirl"


def mark(offset_px: tuple[float, float]) -> dict[str, Any]:
    """Member of a FeatureCollection for QuPath: its coordinates start at `offset_px` of level 0."""
    return {MARK: {"frame": "qupath", "offset_px": list(offset_px)}}


def marked_offset(content: Mapping[str, Any]) -> tuple[float, float] | None:
    """Read the offset that `mark` wrote, in level-0 pixels; None if it is missing or not valid."""
    found = content.get(MARK)
    offset = found.get("offset_px") if isinstance(found, dict) else None
    if not (isinstance(offset, list) and len(offset) == 2):
        return None
    if not all(isinstance(value, int | float) and abs(value) < 2**31 and isfinite(value) for value in offset):
        return None
    return float(offset[0]), float(offset[1])
