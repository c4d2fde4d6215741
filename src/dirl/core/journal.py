"""The files that dirl has written to an output since its last card, each with its digest.

A file is noted under ``.written`` before it is put in place. When the stage finishes, the notes move into the
card. So a file gets a digest only from the process that wrote it. A foreign file never gets one, and damage
never gets a new one. Several processes may note files at once, and a killed one leaves its notes.
"""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dirl.core.digests import FileDigest, sha256
from dirl.core.full_disk import writing
from dirl.core.layout import CARD, EXCLUDED, JOURNAL, NOT_CONTENT, part_of


def note_written(path: Path, content: Path | None = None) -> None:
    """Note a file, or all files of a folder, of an output, at its place `path`.

    `content` is the temporary file or folder that is about to take the place; by default it is there already.
    Not noted are files outside an output, files that are no part of a result, cards and locks. Nor are tar
    files: an index holds the checksums of their members.
    """
    content = content or path
    root = next((folder for folder in path.parents if (folder / CARD).exists()), None)
    if root is None or path.suffix == ".tar" or path.name == CARD:
        return
    place = path.relative_to(root)
    if not (NOT_CONTENT | EXCLUDED).isdisjoint(place.parts):
        return
    files = [file for file in content.rglob("*") if file.is_file()] if content.is_dir() else [content]
    for file in files:
        name = (place / file.relative_to(content)).as_posix()
        written: FileDigest = {"sha256": sha256(file), "bytes": file.stat().st_size}
        note = _note(root, name)
        temporary = part_of(note)
        try:
            with writing(path, temporary):
                note.parent.mkdir(exist_ok=True)
                temporary.write_text(json.dumps({"name": name, **written}), encoding="utf-8")
                temporary.replace(note)
        finally:
            temporary.unlink(missing_ok=True)


def read_notes(directory: Path) -> dict[str, FileDigest]:
    """Read the digests of the files that were noted in an output, by their names in it."""
    notes: dict[str, FileDigest] = {}
    for note in sorted((directory / JOURNAL).glob("*.json")):
        # Another process may move it into the card meanwhile. One that is cut short, after a crash, is none.
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            found = json.loads(note.read_bytes())
            notes[str(found["name"])] = {"sha256": str(found["sha256"]), "bytes": int(found["bytes"])}
    return notes


def remove_notes(directory: Path, names: Iterable[str]) -> None:
    """Remove notes of files whose digests are in the card."""
    for name in names:
        _note(directory, name).unlink(missing_ok=True)
    with suppress(OSError):  # there are none, or other processes have noted more
        (directory / JOURNAL).rmdir()


def _note(directory: Path, name: str) -> Path:
    return directory / JOURNAL / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
