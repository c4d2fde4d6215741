"""The one boundary where bytes that we did not write are parsed, and where names from data become paths."""

import errno
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath

from dirl.core.errors import NO_ROOM, DirlError, SlideError, StoreError, first_line, from_system

HEAD_BYTES = 1024
UNNAMEABLE = ("Cc", "Cs", "Co", "Cn")  # Unicode's control characters, surrogates and unassigned ones
LONGEST_NAME = 255  # bytes; what file systems allow
# Numbers that the system gives when it refuses a file; a parser does not.
_SYSTEMS_OWN = NO_ROOM | {
    *(errno.EPERM, errno.ENOENT, errno.EIO, errno.EACCES, errno.ENOTDIR, errno.EISDIR),
    *(errno.EMFILE, errno.ENAMETOOLONG, errno.ELOOP),
}


@contextmanager
def parsing(
    where: object, *, remedy: str, kind: type[DirlError] = StoreError, what: str = "damaged"
) -> Iterator[None]:
    """Turn whatever a parser raises into our own error.

    Parsers raise what they like on damaged bytes, so every `Exception` is taken. Therefore keep nothing but
    the parser's own calls in the block: a fault of our code must not be blamed on the file.

    Parameters
    ----------
    where
        The file, or the folder whose files are read. A path must not be a pipe, a socket or a device, which
        can block for ever.
    remedy
        What the user can do about a damaged one.
    kind
        Class of the error to raise.
    what
        What is wrong, in words that the parser's own message completes in brackets.

    Raises
    ------
    DirlError
        Of class `kind`, with the parser's message, or if a file of the folder `where` is missing; of
        `from_system` where the system refused the file. A `DirlError` that the block raises passes unchanged.
        Whatever was raised, a Git-LFS pointer or a web page in place of the file is named as such.
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
        # Parsers raise OSError for bytes, too; those of the system carry a number that it knows.
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
    """Refuse what downloads leave in place of a file: a Git-LFS pointer, or a web page.

    Parameters
    ----------
    head
        The file's first bytes.

    Raises
    ------
    DirlError
        Of class `kind`.
    """
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
    except OSError:  # a folder, or a file that cannot be read: the error in hand says more
        return
    check_substitute(head, path, kind=kind)


def refuse_special(path: Path, *, kind: type[DirlError] = StoreError) -> None:
    """Refuse a pipe, a socket or a device: reading one can block for ever, and it cannot be read twice.

    Raises
    ------
    DirlError
        Of class `kind`. A path that is missing, a folder or a file passes.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):  # what opens it says more
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise kind("a pipe, a socket or a device, not a file", where=path, remedy="save it as a file first")


def inside(root: Path, name: str, *, remedy: str = "the file is damaged, or was made to do harm") -> Path:
    """Join a folder and a name that data brought, and refuse a name that leads out of the folder.

    Parameters
    ----------
    root
        The folder.
    name
        A relative path, with ``/`` between its parts, as a slide's id, a shard or a tar member may be.
    remedy
        What the error advises.

    Returns
    -------
    Path
        ``root / name``.

    Raises
    ------
    StoreError
        If the name is empty, absolute, holds ``..``, a drive, or a character that no path may hold.
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
        or not _nameable(name)
    )
    if harmful:
        shown = name if len(name) <= LONGEST_NAME else f"{name[:40]}…"
        raise StoreError(f"the name {shown!r} leads out of the folder", where=root, remedy=remedy)
    return root / name


def is_nameable(text: str) -> bool:
    """Whether a text holds no control character, such as a line break, and nothing that Unicode lacks."""
    return not any(unicodedata.category(sign) in UNNAMEABLE for sign in text)


def check_name(path: Path) -> None:
    """Refuse a path that is not UTF-8, which neither JSON nor Parquet can hold, or has control characters.

    Raises
    ------
    SlideError
        If it is none.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = os.fsencode(path).decode("utf-8", "backslashreplace")
        raise SlideError("its name is not UTF-8", where=shown, remedy="rename it") from None
    if not is_nameable(str(path)):
        reason = "its name, or that of its folder, holds a line break or another control character"
        raise SlideError(reason, where=repr(str(path)), remedy="rename it")


def _nameable(name: str) -> bool:
    try:
        return all(len(os.fsencode(part)) <= LONGEST_NAME for part in PurePosixPath(name).parts)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold and no path
        return False


def _reason(what: str, error: Exception) -> str:
    text = first_line(error)
    return f"{what} ({text})" if text else what
