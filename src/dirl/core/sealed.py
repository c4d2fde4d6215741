"""JSON files with their own digest, which unfinished work leaves for the next run."""

from pathlib import Path
from typing import Any

from dirl.core.errors import StoreError
from dirl.core.files import read_json, write_json
from dirl.core.provenance import digest


def write_sealed(path: Path, value: Any) -> None:
    """Write a JSON value with its digest."""
    write_json(path, {"digest": digest(value), "value": value})


def read_sealed(path: Path) -> Any:
    """Read a file of `write_sealed`; None if it is missing or damaged and must be made again."""
    try:
        found = read_json(path)
        return found["value"] if found["digest"] == digest(found["value"]) else None
    except (FileNotFoundError, StoreError, TypeError, KeyError):
        return None
