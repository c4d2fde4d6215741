"""Digests of the files of an output: taken when its stage finishes, compared when they are read."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from dirl.core.boundary import refuse_special
from dirl.core.files import PART
from dirl.core.owner import OURS

CARD = "card.json"
UNFINISHED = "unfinished"  # folder in an output for the finished parts of an unfinished stage
# Folders in an output that are no part of the result. Trackers write the second.
APART = frozenset({UNFINISHED, "wandb"})


class Written(TypedDict):
    """A file as it was when its stage finished."""

    sha256: str
    bytes: int
    mtime_ns: int


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in 64 hex digits."""
    refuse_special(path)
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def take(path: Path) -> Written:
    """Take the digest of a file."""
    found = path.stat()
    return {"sha256": sha256(path), "bytes": found.st_size, "mtime_ns": found.st_mtime_ns}


def is_whole(path: Path, written: Written) -> bool:
    """Whether a file holds what it held when its digest was taken."""
    try:
        return path.stat().st_size == written["bytes"] and sha256(path) == written["sha256"]
    except FileNotFoundError:
        return False


def is_sound(path: Path, written: Written | None) -> bool:
    """Whether a file is whole, or was written anew since its digest was taken, or never had one.

    For the stage that makes the file, which an interruption may have kept from taking the digest.
    """
    if written is None:
        return True
    try:
        return not _untouched(path, written) or is_whole(path, written)
    except FileNotFoundError:
        return False


def are_sound(directory: Path, names: Iterable[str], files: Mapping[str, Written]) -> bool:
    """Whether all of these files of an output are sound; see `is_sound`."""
    return all(is_sound(directory / name, files.get(name)) for name in names)


def listing(directory: Path, earlier: Mapping[str, Written]) -> dict[str, Written]:
    """Take the digests of all files of an output.

    Parameters
    ----------
    directory
        The output.
    earlier
        The digests of a listing before. A file that nobody has written to since keeps its own: if it is
        damaged, a new digest would hide that.
    """
    found = {}
    for name, path in files_of(directory).items():
        known = earlier.get(name)
        found[name] = known if known is not None and _untouched(path, known) else take(path)
    return found


def files_of(directory: Path) -> dict[str, Path]:
    """Find the files of an output by their names in it, ``/`` between the parts.

    Without its card, locks, parts, tar files (whose members have checksums in an index), and outputs that
    lie in it and have a card of their own.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.name in OURS or PART.fullmatch(path.name) or path.name == CARD:
            continue
        if path.is_dir():
            if path.name not in APART and not (path / CARD).exists():
                found |= {f"{path.name}/{name}": inner for name, inner in files_of(path).items()}
        elif path.suffix != ".tar":
            found[path.name] = path
    return found


def _untouched(path: Path, written: Written) -> bool:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (written["bytes"], written["mtime_ns"])
