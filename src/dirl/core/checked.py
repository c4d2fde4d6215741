"""Reading the files of an output, checked against the digests in its card."""

from pathlib import Path
from typing import Any

from dirl.core.boundary import inside
from dirl.core.card import Card, read_card
from dirl.core.digests import is_whole
from dirl.core.errors import StoreError
from dirl.core.files import read_json

SUMMARY = "summary.json"
# Stages that make missing or damaged files again when they run again.
REPAIRING = frozenset({"tile", "cells"})


def repair_advice(stage: str, name: str = "", *, missing: bool = False) -> str:
    """Advice that repairs an output of a stage, or one file of it."""
    again = f"run the same `dirl {stage}` again"
    if stage in REPAIRING:
        return again
    encoder = "encoder" if name.startswith("encoder/") else ""
    part = {"embed": name, "study": name, "pretrain": encoder}.get(stage, "")
    if not part:
        return f"{again} with --overwrite"
    return again if missing and part == name else f"remove {part}, and {again}"


def checked(directory: Path, name: str, card: Card | None = None) -> Path:
    """Check a file of a finished output, by its name in the card, against its digest, and return its path.

    An unfinished output has no digests, and nothing is checked. A `StoreError` tells that the file is
    missing, was changed, or is not in the card.
    """
    path = inside(directory, name)
    card = card or read_card(directory)
    if not path.exists():
        raise StoreError("missing", where=path, remedy=repair_advice(card.stage, name, missing=True))
    if card.finished is None or _right(path, card, name):
        return path
    again = read_card(directory)  # another process may have written the output again in between
    if again.finished is None or _right(path, again, name):
        return path
    listed = name in again.files
    reason = "damaged: its SHA-256 differs from card.json" if listed else "card.json has no digest of it"
    raise StoreError(reason, where=path, remedy=repair_advice(card.stage, name))


def read_checked(directory: Path, name: str, card: Card | None = None) -> Any:
    """Read a JSON file of an output; see `checked`."""
    card = card or read_card(directory)
    return read_json(checked(directory, name, card), repair_advice(card.stage, name))


def read_summary(directory: Path) -> dict[str, Any]:
    """Read the ``summary.json`` of an output; see `read_checked`."""
    summary: dict[str, Any] = read_checked(directory, SUMMARY)
    return summary


def _right(path: Path, card: Card, name: str) -> bool:
    return name in card.files and is_whole(path, card.files[name])
