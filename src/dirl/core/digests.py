"""Digests of the files of an output: made when its stage finishes, compared when a file is read."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypedDict

from dirl.core.boundary import refuse_special
from dirl.core.files import PART
from dirl.core.owner import LOCK_FILES

CARD = "card.json"
UNFINISHED = "unfinished"  # folder in an output for the finished parts of an unfinished stage
# Folders in an output that are not part of the result. A tracker writes the second.
EXCLUDED = frozenset({UNFINISHED, "wandb"})


class Written(TypedDict):
    """Digest, size and time of a file when its stage finished."""

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
    """Whether a file's content is unchanged since its digest was taken."""
    try:
        return path.stat().st_size == written["bytes"] and sha256(path) == written["sha256"]
    except FileNotFoundError:
        return False


def is_sound(path: Path, written: Written | None) -> bool:
    """Whether a file is unchanged, was written again since its digest was taken, or has no digest.

    For the stage that makes the file: an interruption may have prevented a new digest.
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
        Digests of an earlier listing. A file that was not written to since keeps its digest: if it is
        damaged, a new digest would hide the damage.
    """
    found = {}
    for name, path in files_of(directory).items():
        before = earlier.get(name)
        found[name] = before if before is not None and _untouched(path, before) else take(path)
    return found


def files_of(directory: Path) -> dict[str, Path]:
    """Find the files of an output by their names in it, with ``/`` between the parts.

    Left out are the card, locks, parts, and outputs inside it with a card of their own. Tar files are left
    out, too: an index has the checksums of their members.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.iterdir()):
        if path.name in LOCK_FILES or PART.fullmatch(path.name) or path.name == CARD:
            continue
        if path.is_dir():
            if path.name not in EXCLUDED and not (path / CARD).exists():
                found |= {f"{path.name}/{name}": inner for name, inner in files_of(path).items()}
        elif path.suffix != ".tar":
            found[path.name] = path
    return found


def _untouched(path: Path, written: Written) -> bool:
    found = path.stat()
    return (found.st_size, found.st_mtime_ns) == (written["bytes"], written["mtime_ns"])
