"""Recognising a full or failing disk in any exception of a library that writes."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dirl.core.errors import DirlError, MachineError, first_line, from_system

# A disk with less free space is full: no file of dirl is smaller than a block.
LEAST_BYTES = 4096
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# Messages of the system's own library. Other libraries print these words, but drop the number.
_WORDS = {os.strerror(number).lower(): number for number in _FATAL} | {
    "no space left": errno.ENOSPC,
    "storagefull": errno.ENOSPC,
    "quotaexceeded": errno.EDQUOT,
    "filetoolarge": errno.EFBIG,
}
# Messages of NumPy, PyTorch and Pillow about a write that ended too soon.
_CUT_SHORT = ("requested and", "pytorchstreamwriter failed", "encoder error", "short write")


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn a failed write in the block into a `NoRoomError` or `MachineError` that names `path`.

    It also replaces the name `temporary`, which the file has during writing, in errors of the system.
    """
    try:
        yield
    except DirlError:
        raise
    except Exception as error:
        failed = refusal(error, path, temporary)
        if failed is not None:
            raise failed from error
        if isinstance(error, OSError) and temporary is not None and _names(error, temporary):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def refusal(error: Exception, path: Path, temporary: Path | None = None) -> MachineError | None:
    """Describe a failed write; None if nothing shows that the disk refused it."""
    number, place = _behind(error)
    if place is None or (temporary is not None and place.startswith(str(temporary))):
        place = str(path)
    if number is None and _room(path) < LEAST_BYTES:
        number = errno.ENOSPC
    if number is not None:
        failed = from_system(OSError(number, os.strerror(number)), place)
        assert isinstance(failed, MachineError)
        return failed
    text = str(error).lower()
    if any(words in text for words in _CUT_SHORT):
        return MachineError(
            f"could not be written completely ({first_line(error)})",
            where=path,
            remedy="see `df` and `ulimit -f`, then run the same command again",
        )
    return None


def _behind(error: BaseException | None) -> tuple[int | None, str | None]:
    """Error number of the system, and its file, from an exception or one of its causes."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FATAL:
            place = error.filename2 or error.filename  # filename2: the target of a copy
            return error.errno, None if place is None else str(place)
        text = str(error).lower()
        for words, number in _WORDS.items():
            if words in text:
                return number, None
        error = error.__cause__ or error.__context__
    return None, None


def _room(path: Path) -> int:
    """Free bytes on the disk of a file or of its future folder."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _names(error: OSError, temporary: Path) -> bool:
    return error.errno is not None and str(error.filename).startswith(str(temporary))
