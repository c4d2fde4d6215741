"""Digests of values and files, and whether the files of an output are as they were written."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

from dirl.core.boundary import refuse_special
from dirl.core.layout import CARD, EXCLUDED, NOT_CONTENT, PART


class FileDigest(TypedDict):
    """A file's content as it was written: 64 hex digits, and its length."""

    sha256: str
    bytes: int


def digest(value: Any) -> str:
    """Sixteen hex digits of the SHA-256 of a JSON-like value, of bytes, or of a file's content."""
    if isinstance(value, Path):
        return sha256(value)[:16]
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in 64 hex digits."""
    refuse_special(path)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_whole(path: Path, written: FileDigest) -> bool:
    """Whether a file's content is unchanged since its digest was taken."""
    try:
        return path.stat().st_size == written["bytes"] and sha256(path) == written["sha256"]
    except FileNotFoundError:
        return False


def are_whole(directory: Path, names: Iterable[str], files: Mapping[str, FileDigest]) -> bool:
    """Whether dirl wrote all of these files of an output, and all are as they were written."""
    return all(name in files and is_whole(directory / name, files[name]) for name in names)


def files_of(directory: Path) -> dict[str, Path]:
    """Find the files of an output by their names in it, with ``/`` between the parts.

    Left out are the card, locks, parts, and outputs inside it with a card of their own. Tar files are left
    out, too: an index has the checksums of their members.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.name in NOT_CONTENT or PART.fullmatch(path.name) or path.name == CARD:
            continue
        if path.is_dir():
            if path.name not in EXCLUDED and not (path / CARD).exists():
                found |= {f"{path.name}/{name}": inner for name, inner in files_of(path).items()}
        elif path.suffix != ".tar":
            found[path.name] = path
    return found
