"""What the JSON file of a segmentation tool says of its nuclei, brought to level 0."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.matching import type_files
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError


@dataclass(frozen=True)
class ToolNuclei:
    """Nuclei of one file.

    Attributes
    ----------
    shapes
        Valid polygons and multipolygons with an area, in level-0 pixels, shape (n,).
    ids
        Number of each, int32 of shape (n,), from 1, each once.
    classes
        Name of each one's class, or None.
    notes
        What was scaled or left out, counted.
    from_bounds
        Whether coordinates begin at the corner of what was scanned, as QuPath's do, not at the slide's.
    """

    shapes: NDArray[Any]
    ids: NDArray[np.int32]
    classes: list[str | None]
    notes: Mapping[str, int]
    from_bounds: bool


def read_json_file(file: Path, remedy: str) -> Any:
    """Parse a user's JSON file.

    Raises
    ------
    ConfigError
        If it is none.
    """
    with parsing(file, remedy=remedy, kind=ConfigError, what="cannot be read as JSON"):
        return json.loads(file.read_bytes())


def type_names(file: Path) -> dict[str, str]:
    """Names of types by number, from a ``type_info.json`` in the file's folder or in the one above it.

    Raises
    ------
    ConfigError
        If there is one that names none.
    """
    for info in type_files(file):
        if info.is_file():
            content = read_json_file(info, 'write {"1": ["tumour", [255, 0, 0]]}')
            if not isinstance(content, dict):
                raise ConfigError("names no types", where=info, remedy='write {"1": ["tumour", [255, 0, 0]]}')
            return {
                number: clean(named[0] if isinstance(named, list) and named else named)
                for number, named in content.items()
            }
    return {}


def class_names(types: Sequence[Any], named: Mapping[str, str]) -> list[str | None]:
    """Name each nucleus's type; one without a type has no class, one without a name is called by its number.

    Parameters
    ----------
    types
        As the file has them: whole numbers, names, or None.
    named
        Names by number. A background has the name ``""``.
    """
    found: list[str | None] = []
    for one in types:
        number = str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)
        missing = one is None or isinstance(one, list | dict)
        found.append(None if missing else named.get(number, _unnamed(number)) or None)
    return found


def clean(name: Any) -> str:
    """Make a name of what JSON holds, which can be halves of surrogate pairs, which no file of ours can."""
    return str(name).encode(errors="replace").decode()


def _unnamed(number: str) -> str:
    return f"type {number}" if number.isdecimal() else clean(number)
