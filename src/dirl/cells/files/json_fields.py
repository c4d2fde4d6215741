"""Fields of the JSON files of segmentation tools: types of nuclei with their names, and numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dirl.cells.files.matching import type_files
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError

TYPES_REMEDY = 'write {"1": ["tumour", [255, 0, 0]]}'


def read_json_file(file: Path, remedy: str) -> Any:
    """Parse a user's JSON file, or raise a `ConfigError`."""
    with parsing(file, remedy=remedy, kind=ConfigError, what="cannot be read as JSON"):
        return json.loads(file.read_bytes())


def type_names(file: Path) -> dict[str, str]:
    """Read the names of types by number from ``type_info.json`` in the file's folder, or the one above."""
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
    """Name each nucleus's class, given its type as in the file and names by number; ``""`` is background.

    A type without a name is called by its number.
    """
    found: list[str | None] = []
    for one in types:
        number = str(int(one)) if isinstance(one, float) and one.is_integer() else str(one)
        missing = one is None or isinstance(one, list | dict)
        unnamed = f"type {number}" if number.isdecimal() else clean(number)
        found.append(None if missing else named.get(number, unnamed) or None)
    return found


def clean(name: Any) -> str:
    """Make a name of a JSON value. It can hold halves of surrogate pairs, which cannot be written."""
    return str(name).encode(errors="replace").decode()


def positive_number(value: Any) -> float | None:
    """Return a positive number of usual size, or None for any other value."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 1e-3 < value < 1e6 else None
