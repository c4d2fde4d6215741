"""Parsing of untrusted files, and checks of names in data that become paths."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from dirl.core.errors import NO_ROOM, DirlError, SlideError, StoreError, first_line, from_system

HEAD_BYTES = 1024
CONTROL = ("Cc", "Cs", "Co", "Cn")  # Unicode's control characters, surrogates and unassigned ones
LONGEST_NAME = 255  # bytes; the limit of file systems
# Error numbers of the system when it refuses a file. Parsers do not raise them.
_SYSTEMS_OWN = NO_ROOM | {
    *(errno.EPERM, errno.ENOENT, errno.EIO, errno.EACCES, errno.ENOTDIR, errno.EISDIR),
    *(errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP),
}


@contextmanager
def parsing(
    where: object, *, remedy: str, kind: type[DirlError] = StoreError, what: str = "damaged"
) -> Iterator[None]:
    """Turn any exception of a parser into a `DirlError` of class `kind`, with the parser's message.

    Parsers raise any kind of exception on damaged bytes, so every `Exception` is caught. Keep only the
    parser's own calls in the block: a fault of dirl's code must not be blamed on the file. `where` is the
    file, or the folder whose files are read. The message starts with `what`.

    An error of the system goes through `from_system`, and a `DirlError` passes unchanged. The error says so
    if the file is a Git-LFS pointer, a web page, a pipe, a socket or a device.
    """
    if isinstance(where, Path):
        refuse_special(where, kind=kind)
    try:
        yield
    except DirlError:
        if isinstance(where, Path):
            _refuse_substitute(where, kind)
        raise
    except OSError as error:
        if error.errno == errno.ENOENT and isinstance(where, Path) and where.is_dir():
            raise kind("missing", where=error.filename or where, remedy=remedy) from error
        # Parsers raise OSError for damaged bytes, too. An error of the system has one of its numbers.
        if error.errno in _SYSTEMS_OWN:
            raise from_system(error, where) from error
        if isinstance(where, Path):
            _refuse_substitute(where, kind)
        raise kind(_reason(what, error), where=where, remedy=remedy) from error
    except Exception as error:
        if isinstance(where, Path):
            _refuse_substitute(where, kind)
        raise kind(_reason(what, error), where=where, remedy=remedy) from error


def check_substitute(head: bytes, where: object, *, kind: type[DirlError] = StoreError) -> None:
    """Refuse a file whose first bytes are a Git-LFS pointer, or a web page that was downloaded instead."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        remedy = "run `git lfs pull` there, or download the file"
        raise kind("a Git-LFS pointer, not the file itself", where=where, remedy=remedy)
    if text.startswith((b"<!doctype html", b"<html")) or (text.startswith(b"<!--") and b"<html" in text):
        remedy = "download the file itself; the page may ask for a login"
        raise kind("a web page (HTML), not the file itself", where=where, remedy=remedy)


def _refuse_substitute(path: Path, kind: type[DirlError]) -> None:
    try:
        with path.open("rb") as handle:
            head = handle.read(HEAD_BYTES)
    except OSError:  # a folder, or a file that cannot be read: the first error says more
        return
    check_substitute(head, path, kind=kind)


def refuse_special(path: Path, *, kind: type[DirlError] = StoreError) -> None:
    """Refuse a pipe, a socket or a device: reading can block for ever, and works only once.

    A missing path, a folder and a file pass.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # opening the path gives a better error
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise kind("a pipe, a socket or a device, not a file", where=path, remedy="save it as a file first")


def inside(root: Path, name: str, *, remedy: str = "the file is damaged, or was made to do harm") -> Path:
    """Join a folder and a name from data, such as a slide's id, a shard or a tar member.

    The name has ``/`` between its parts. A `StoreError` refuses a name that is empty or absolute, or contains
    ``..``, a drive, or a character not allowed in a path.
    """
    parts = PurePosixPath(name).parts
    windows = PureWindowsPath(name)
    harmful = (
        not parts
        or PurePosixPath(name).is_absolute()
        or bool(windows.drive or windows.root)
        or ".." in parts
        or ".." in windows.parts
        or "\0" in name
        or not _fits_file_system(name)
    )
    if harmful:
        shown = name if len(name) <= LONGEST_NAME else f"{name[:40]}…"
        raise StoreError(f"the name {shown!r} leads out of the folder", where=root, remedy=remedy)
    return root / name


def has_control_characters(text: str) -> bool:
    """Whether a text has a control character, such as a line break, or an unassigned one."""
    return any(unicodedata.category(sign) in CONTROL for sign in text)


def check_name(path: Path) -> None:
    """Refuse a path that is not UTF-8 or has control characters. JSON and Parquet hold only UTF-8."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise SlideError("its name is not UTF-8", where=shown, remedy="rename it") from None
    if has_control_characters(str(path)):
        reason = "its name or its folder's name contains a line break or another control character"
        raise SlideError(reason, where=repr(str(path)), remedy="rename it")


def _fits_file_system(name: str) -> bool:
    try:
        return all(len(os.fsencode(part)) <= LONGEST_NAME for part in PurePosixPath(name).parts)
    except UnicodeEncodeError:  # half of a surrogate pair: allowed in JSON, but not in a path
        return False


def _reason(what: str, error: Exception) -> str:
    text = first_line(error)
    return f"{what} ({text})" if text else what
