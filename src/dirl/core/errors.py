"""All errors of dirl, in one tree of exceptions.

::

    DirlError                 exit code 1: a valid request that failed
    ├── TrainingError         loss not finite, collapse, too little memory, a failed start
    ├── MachineError          input/output error, too many open files
    │   └── NoRoomError       disk or quota full, file too large
    ├── InUseError            another process owns the directory
    ├── Interrupted           SIGINT, SIGTERM or SIGHUP came; exit code 143 for SIGTERM, else 130
    ├── PartlyFailedError     some slides failed, the others are done
    └── UserError             exit code 2: a request that cannot be carried out
        ├── ConfigError       option, recipe key, unknown plugin
        ├── SlideError        unreadable slide, no mpp, no tissue
        ├── StoreError        not a store, other settings, truncated, no cells
        └── EncoderError      unknown, unsupported, weights that do not fit

    DirlWarning               the command goes on; the user should check something
"""

import errno
import os
import traceback
from collections.abc import Mapping
from textwrap import shorten


class DirlError(Exception):
    """A failure. The message says what is wrong, where, and what to do.

    Parameters
    ----------
    reason
        What is wrong, without a full stop.
    where
        File, recipe key or option that is wrong.
    remedy
        Advice to the user.
    """

    exit_code = 1

    def __init__(self, reason: str, *, where: object = None, remedy: str = "") -> None:
        self.reason, self.where, self.remedy = reason, where, remedy
        super().__init__(reason, where, remedy)

    def __str__(self) -> str:
        place = "" if self.where is None else f"{self.where}: "
        return f"{place}{self.reason}" + (f" — {self.remedy}" if self.remedy else "")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.reason, self.where, self.remedy), self.__dict__  # its notes too


def _rebuild(kind: type[DirlError], reason: str, where: object, remedy: str) -> DirlError:
    return kind(reason, where=where, remedy=remedy)


def as_dirl_error(error: BaseException, where: object = None) -> DirlError:
    """Turn an unexpected exception into a `DirlError`, with its traceback as a note.

    A `DirlError` is returned unchanged. `where` is the file being processed.
    """
    if isinstance(error, DirlError):
        return error
    if isinstance(error, OSError) and error.errno is not None:
        return from_system(error, where)
    text = " ".join(str(error).split()) or "no message"
    unexpected = DirlError(f"unexpected {type(error).__name__}: {text}", where=where)
    unexpected.add_note("".join(traceback.format_exception(error)))
    return unexpected


# The disk or the quota is full, the disk is read-only, or a file would be larger than the system allows.
NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
_SYSTEM = {
    errno.ENOSPC: ("no space left on the disk", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: (
        "the file would be larger than this system allows",
        "see `ulimit -f` and the limits of the disk, then run the same command again",
    ),
    errno.EROFS: ("the disk is read-only", "give a folder that you may write to"),
    errno.EIO: ("the disk or the network failed", "check the disk, then run the same command again"),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.EACCES: ("permission denied", "check the permissions of the file and of its folder"),
    errno.EPERM: ("not permitted", "check the permissions of the file and of its folder"),
    errno.EISDIR: ("a folder, not a file", "give a file"),
    errno.ENOTDIR: ("a file, not a folder", "give another path"),
    errno.ENAMETOOLONG: ("the name is too long", "give a shorter path"),
    errno.EMFILE: ("too many open files", "raise the limit with `ulimit -n`, or use fewer workers"),
    errno.ELOOP: ("the link leads back to itself", "check the link"),
}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_MACHINE = {errno.EIO, errno.EMFILE}


def from_system(error: OSError, where: object = None) -> DirlError:
    """Turn an error of the operating system into a `DirlError`; `where` counts if the error names no file.

    A full disk gives a `NoRoomError` and a failing one a `MachineError`, both of exit code 1. A path that is
    missing or not allowed gives a `SlideError` (2).
    """
    place = error.filename if error.filename is not None else where
    reason, remedy = _SYSTEM.get(
        error.errno or 0, (error.strerror or os.strerror(error.errno or 0), "check the path")
    )
    kind: type[DirlError] = SlideError
    if error.errno in _FULL:
        kind = NoRoomError
    elif error.errno in _MACHINE:
        kind = MachineError
    return kind(reason, where=place, remedy=remedy)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, short enough for one line."""
    text = str(error).strip() or type(error).__name__
    return shorten(text.splitlines()[0], 160, placeholder=" …")


class DirlWarning(UserWarning):
    """The command goes on, but the user should check something: a scale, a prior, a table of slides."""


class TrainingError(DirlError):
    """Training cannot begin or go on: the loss is not finite, embeddings collapsed, memory is too small."""


class MachineError(DirlError):
    """The machine failed: a full disk, a file that is too large, an input/output error."""


class NoRoomError(MachineError):
    """The disk or the quota is full, or a file is too large: nothing else can be written either."""


class InUseError(DirlError):
    """Another process owns a directory or works on a slide of it."""


class Interrupted(DirlError):  # noqa: N818 - named for the event, like KeyboardInterrupt
    """A signal stopped the work. Finished parts are kept, and the same command continues from them.

    Parameters
    ----------
    number
        Number of the signal: 2 for SIGINT (Ctrl-C), 15 for SIGTERM, 1 for SIGHUP.
    """

    def __init__(self, number: int = 2) -> None:
        super().__init__("interrupted", remedy="run the same command again to continue")
        self.number = number
        self.exit_code = 143 if number == 15 else 130

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.number,), self.__dict__


class UserError(DirlError):
    """The user's request cannot be carried out."""

    exit_code = 2


class ConfigError(UserError):
    """An option, a recipe key or a plugin's name is wrong."""


class SlideError(UserError):
    """A slide cannot be read, has no mpp, or has no tissue."""


class StoreError(UserError):
    """A directory is of another kind than the stage expects, has other settings, or is damaged."""


class EncoderError(UserError):
    """An encoder is unknown, unsupported, or its weights do not fit."""


class PartlyFailedError(DirlError):
    """Some items failed. All others are finished and kept.

    Parameters
    ----------
    failures
        The reason for each item that failed.
    done
        How many items are finished.
    """

    def __init__(self, failures: Mapping[str, DirlError], done: int) -> None:
        lines = "".join(f"\n  {error}" for error in failures.values())
        super().__init__(f"{len(failures)} failed, {done} done:{lines}")
        self.failures = dict(failures)
        self.done = done
        # Exit code 2 only if every failure is the user's.
        self.exit_code = max((e.exit_code for e in failures.values()), default=1)
        if any(e.exit_code == 1 for e in failures.values()):
            self.exit_code = 1


def failed_counts(failures: Mapping[str, DirlError]) -> dict[str, object]:
    """Entries of a card's counts: how many items failed, and why."""
    reasons = {name: error.reason for name, error in failures.items()}
    return {"failed": len(failures)} | ({"failures": reasons} if reasons else {})


def raise_failures(failures: Mapping[str, DirlError], done: int) -> None:
    """Raise the failure of a single item itself, and several failures, or some of several, together."""
    if len(failures) == 1 and not done:
        raise next(iter(failures.values()))
    if failures:
        raise PartlyFailedError(failures, done)
