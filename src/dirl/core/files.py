"""Files that are complete or absent: each is written under a temporary name, then renamed."""

import glob
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dirl.core.boundary import parsing, refuse_special
from dirl.core.digests import digest
from dirl.core.errors import NO_ROOM, DirlError, NoRoomError, StoreError, from_system
from dirl.core.full_disk import writing
from dirl.core.journal import note_written
from dirl.core.layout import PART_SUFFIX, part_of


def time_now() -> str:
    """Return the time in UTC to the second, as files name it (ISO 8601)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def no_room(error: Exception) -> bool:
    """Whether an error means that nothing else can be written either."""
    return isinstance(error, NoRoomError) or (isinstance(error, OSError) and error.errno in NO_ROOM)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder, made if missing. It replaces `path` if the block succeeds.

    It may be a file or a directory, and is removed if the block fails. If the disk refuses the write, any
    exception of the library that writes becomes a `NoRoomError` or `MachineError`.
    """
    temporary = part_of(path)
    try:
        with writing(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            put_in_place(temporary, path)
    finally:
        remove(temporary)


def put_in_place(temporary: Path, path: Path) -> None:
    """Replace `path` by a finished temporary file or directory, and note its digest for the output's card."""
    for file in (temporary, *temporary.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
    note_written(path, temporary)
    if temporary.is_dir():
        remove(path)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a file, or a directory with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_parts(folder: Path, stem: str) -> None:
    """Remove unfinished files ``stem.EXTENSION`` of dead writers from a folder. The caller owns the item."""
    for part in folder.glob(f".{glob.escape(stem)}.*.part"):
        # A file of another item that starts with the same name, such as `a.b.tar` for `a`, may be in use.
        rest = part.name.removeprefix(f".{stem}")
        if re.fullmatch(r"(\.nuclei|\.statistics)?\.[a-z]+" + PART_SUFFIX, rest):
            remove(part)


def write_text(path: Path, text: str) -> None:
    """Write `text` completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, completely or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: Path,
    remedy: str = "run the command that made it again",
    what: str = "damaged",
    kind: type[DirlError] = StoreError,
) -> Any:
    """Read a JSON file, by default one that a dirl command wrote. A missing one is a `FileNotFoundError`.

    A damaged one is an error of class `kind` by `dirl.core.boundary.parsing`.
    """
    refuse_special(path, kind=kind)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise from_system(error, path) from error
    with parsing(path, remedy=remedy, what=what, kind=kind):
        return json.loads(data.decode("utf-8"), parse_constant=_no_number)


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number")


def write_json_with_digest(path: Path, value: Any) -> None:
    """Write a JSON value with its digest: unfinished work leaves it for the next run."""
    write_json(path, {"digest": digest(value), "value": value})


def read_json_with_digest(path: Path) -> Any:
    """Read a file of `write_json_with_digest`; None if it is missing or damaged and must be made again."""
    try:
        found = read_json(path)
        return found["value"] if found["digest"] == digest(found["value"]) else None
    except (FileNotFoundError, StoreError, TypeError, KeyError):
        return None
