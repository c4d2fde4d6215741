"""Files that are whole or absent: written under a temporary name beside their place, then renamed."""

import glob
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dirl.core.boundary import parsing, refuse_special
from dirl.core.errors import NO_ROOM, DirlError, NoRoomError, StoreError, from_system
from dirl.core.full_disk import writing

_HOST = re.sub(r"[^A-Za-z0-9-]", "", socket.gethostname())[:20] or "host"
_SUFFIX = r"\.[A-Za-z0-9-]+-\d+-[0-9a-f]{8}\.part"
# Names of files that are being written; see `part_of`.
PART = re.compile(r"\..+" + _SUFFIX)


def no_room(error: Exception) -> bool:
    """Whether an error says that nothing else can be written either."""
    return isinstance(error, NoRoomError) or (isinstance(error, OSError) and error.errno in NO_ROOM)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; it takes `path`'s place when the block succeeds.

    Parameters
    ----------
    path
        File or directory to make. Its folder is created.

    Yields
    ------
    Path
        Where to write. What an exception leaves behind is removed.

    Raises
    ------
    NoRoomError, MachineError
        If the disk refuses it, whatever the library that writes raises.
    """
    temporary = part_of(path)
    try:
        with writing(path, temporary):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            put_in_place(temporary, path)
    finally:
        remove(temporary)


def part_of(path: Path) -> Path:
    """Name the temporary file beside `path`: no other process, on whatever host, takes the same name."""
    name = f".{path.name}.{_HOST}-{os.getpid()}-{secrets.token_hex(4)}.part"
    return path.with_name(name)


def put_in_place(temporary: Path, path: Path) -> None:
    """Let a finished temporary file or directory take the place of `path`."""
    for file in (temporary, *temporary.rglob("*")):
        if file.is_file():
            with file.open("rb+") as handle:
                os.fsync(handle.fileno())
    if temporary.is_dir():
        remove(path)
    temporary.replace(path)


def remove(path: Path) -> None:
    """Remove a file or a directory with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_parts(folder: Path, stem: str) -> None:
    """Remove what dead writers of files ``stem.EXTENSION`` left in a folder; the caller owns the item."""
    for part in folder.glob(f".{glob.escape(stem)}.*.part"):
        # The rest of a name that only begins alike, as `a.b.tar` does like `a`, may be being written to.
        if re.fullmatch(r"(\.nuclei|\.statistics)?\.[a-z]+" + _SUFFIX, part.name.removeprefix(f".{stem}")):
            remove(part)


def write_text(path: Path, text: str) -> None:
    """Write `text` whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(
    path: Path,
    remedy: str = "run the command that made it again",
    what: str = "damaged",
    kind: type[DirlError] = StoreError,
) -> Any:
    """Read a JSON file, by default one that a dirl command wrote.

    Parameters
    ----------
    path
        The file.
    remedy, what, kind
        What the error says where it is damaged; see `dirl.core.boundary.parsing`.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DirlError
        If it is no JSON file, or the system refuses it.
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
    raise ValueError(f"{text} is no number")
