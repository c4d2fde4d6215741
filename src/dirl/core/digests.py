"""The files of an output, and whether they are as they were written."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from dirl.core.journal import Written, sha256
from dirl.core.layout import CARD, EXCLUDED, NOT_CONTENT, PART


def is_whole(path: Path, written: Written) -> bool:
    """Whether a file's content is unchanged since its digest was taken."""
    try:
        return path.stat().st_size == written["bytes"] and sha256(path) == written["sha256"]
    except FileNotFoundError:
        return False


def are_whole(directory: Path, names: Iterable[str], files: Mapping[str, Written]) -> bool:
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
