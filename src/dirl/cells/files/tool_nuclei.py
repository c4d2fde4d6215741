"""The nuclei in the JSON file of a segmentation tool, in level-0 pixels."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.frames import choose_frame
from dirl.cells.files.matching import type_files
from dirl.cells.files.polygon_nuclei import centres_of, moved, nuclei_from_polygons
from dirl.cells.source import FileNuclei
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.slides.base import Box

TYPES_REMEDY = 'write {"1": ["tumour", [255, 0, 0]]}'


@dataclass(frozen=True)
class ToolNuclei:
    """The nuclei of one file.

    Attributes
    ----------
    shapes
        Valid polygons and multipolygons with an area, in level-0 pixels, shape (n,).
    ids
        Id of each, int32 of shape (n,), from 1, unique.
    classes
        Name of each one's class, or None.
    notes
        Counts of what was scaled or left out.
    tool
        Name of the tool.
    from_bounds
        Whether coordinates begin at the corner of the scanned area, as QuPath's do, and not at the slide's.
    """

    shapes: NDArray[Any]
    ids: NDArray[np.int32]
    classes: list[str | None]
    notes: Mapping[str, int]
    tool: str
    from_bounds: bool

    def placed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box, frame: str) -> FileNuclei:
        """Place the nuclei on a slide that QuPath crops to `bounds`; see `dirl.cells.files.frames`."""
        centres = centres_of(self.shapes)
        chosen = choose_frame(frame, None, self.from_bounds, centres, size_px, bounds)
        if frame == "auto":
            why = f"the coordinates of {self.tool} begin there" + (", as QuPath's do" * self.from_bounds)
            chosen = replace(chosen, why=why)
        shapes = moved(self.shapes, chosen)
        return nuclei_from_polygons(shapes, self.ids, self.classes, self.notes, file, size_px, mpp, chosen)


def read_json_file(file: Path, remedy: str) -> Any:
    """Parse a user's JSON file.

    Raises
    ------
    ConfigError
        If it is not JSON.
    """
    with parsing(file, remedy=remedy, kind=ConfigError, what="cannot be read as JSON"):
        return json.loads(file.read_bytes())


def type_names(file: Path) -> dict[str, str]:
    """Read the names of types by number from a ``type_info.json`` in the file's folder or in the one above.

    Raises
    ------
    ConfigError
        If there is one without names.
    """
    for info in type_files(file):
        if info.is_file():
            content = read_json_file(info, TYPES_REMEDY)
            if not isinstance(content, dict):
                raise ConfigError("names no types", where=info, remedy=TYPES_REMEDY)
            return {
                number: clean(named[0] if isinstance(named, list) and named else named)
                for number, named in content.items()
            }
    return {}


def class_names(types: Sequence[Any], named: Mapping[str, str]) -> list[str | None]:
    """Name each nucleus's class after its type; a type without a name is called by its number.

    Parameters
    ----------
    types
        Types as in the file: integers, names, or None for no class.
    named
        Names by number. The background has the name ``""``.
    """
    found: list[str | None] = []
    for one in types:
        number = str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)
        missing = one is None or isinstance(one, list | dict)
        found.append(None if missing else named.get(number, _unnamed(number)) or None)
    return found


def clean(name: Any) -> str:
    """Make a name of a JSON value. It can hold halves of surrogate pairs, which cannot be written."""
    return str(name).encode(errors="replace").decode()


def stated_number(value: Any) -> float | None:
    """Return a positive number of usual size, or None for any other value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 1e-3 < value < 1e6 else None


def _unnamed(number: str) -> str:
    return f"type {number}" if number.isdecimal() else clean(number)
