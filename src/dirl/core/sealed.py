"""What unfinished work keeps for the next run: JSON with its own digest, made anew where it is damaged."""

from pathlib import Path
from typing import Any

from dirl.core.errors import StoreError
from dirl.core.files import read_json, write_json
from dirl.core.provenance import digest


def write_sealed(path: Path, value: Any) -> None:
    """Write a value that JSON can hold, with its digest."""
    write_json(path, {"digest": digest(value), "value": value})


def read_sealed(path: Path) -> Any:
    """Read what `write_sealed` wrote; None where it is missing or damaged, and so is to be made."""
    try:
        found = read_json(path)
        return found["value"] if found["digest"] == digest(found["value"]) else None
    except (FileNotFoundError, StoreError, TypeError, KeyError):
        return None
