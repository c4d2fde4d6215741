"""What a failed write says: the system's number, a library's own words, or how much room is left."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dirl.core.errors import DirlError, MachineError, first_line, from_system

# A disk that has less is full: nothing that dirl writes is smaller than a block.
LEAST_BYTES = 4096
_FATAL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
# As the system's own library words them; others print these words, and drop the number.
_WORDS = {os.strerror(number).lower(): number for number in _FATAL} | {
    "no space left": errno.ENOSPC,
    "storagefull": errno.ENOSPC,
    "quotaexceeded": errno.EDQUOT,
    "filetoolarge": errno.EFBIG,
}
# NumPy, PyTorch and Pillow say no more than that a write came to an end too soon.
_CUT_SHORT = ("requested and", "pytorchstreamwriter failed", "encoder error", "short write")


@contextmanager
def writing(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Name the file whose writing fails, whatever the library that writes raises.

    Parameters
    ----------
    path
        The file or the directory that is made.
    temporary
        What it is called until it is whole; an error of the system that names it names `path` instead.

    Raises
    ------
    NoRoomError
        If the disk or the quota is full, or the file would be larger than the system allows.
    MachineError
        If the disk fails, or a write ends too soon.
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
    """Put a failed write in our words; None where nothing says that the disk refused it."""
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
            f"could not be written whole ({first_line(error)})",
            where=path,
            remedy="see `df` and `ulimit -f`, then run the same command again",
        )
    return None


def _behind(error: BaseException | None) -> tuple[int | None, str | None]:
    """Number of the system, and its file, behind an exception or behind what it was raised from."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FATAL:
            place = error.filename2 or error.filename  # of a copy: where it was to go
            return error.errno, None if place is None else str(place)
        text = str(error).lower()
        for words, number in _WORDS.items():
            if words in text:
                return number, None
        error = error.__cause__ or error.__context__
    return None, None


def _room(path: Path) -> int:
    """Bytes that are free on the disk of a file, or of the folder that it is to lie in."""
    folder = path.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def _names(error: OSError, temporary: Path) -> bool:
    return error.errno is not None and str(error.filename).startswith(str(temporary))
