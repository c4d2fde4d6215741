"""What can go wrong, as one exception tree.

::

    DirlError                 exit code 1: a sound request that failed
    ├── TrainingError         NaN, collapse
    ├── PartlyFailedError     some slides failed, the others are done
    └── UserError             exit code 2: a request that cannot be met as it is put
        ├── ConfigError       option, recipe key, unknown plugin
        ├── SlideError        unreadable slide, no mpp, no tissue
        ├── StoreError        not a store, other settings, truncated, no cells
        └── EncoderError      unknown, unsupported, weights that do not fit
"""

import traceback
from collections.abc import Mapping


class DirlError(Exception):
    """Something failed; the message says what is wrong, where, and what to do.

    Parameters
    ----------
    reason
        What is wrong, without a full stop.
    where
        File, recipe key or option that it is wrong in.
    remedy
        What the reader can do about it.
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


def explained(error: BaseException, where: object = None) -> DirlError:
    """Put an exception that nobody foresaw as a `DirlError`, with its traceback as a note.

    A `DirlError` is returned as it is; `where` is the file that was worked on.
    """
    if isinstance(error, DirlError):
        return error
    text = " ".join(str(error).split()) or "no message"
    place = getattr(error, "filename", None) or where
    if isinstance(error, OSError) and place is not None:
        reason = f"cannot be read or written ({error.strerror or text})"
        return SlideError(reason, where=place, remedy="check it, or leave it out")
    told = DirlError(f"unexpected {type(error).__name__}: {text}", where=where)
    told.add_note("".join(traceback.format_exception(error)))
    return told


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, short enough for one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:160]


class TrainingError(DirlError):
    """Training cannot go on: the loss is not finite, or the embeddings have collapsed."""


class UserError(DirlError):
    """The request cannot be met as it is put."""

    exit_code = 2


class ConfigError(UserError):
    """An option, a recipe key or a plugin's name is wrong."""


class SlideError(UserError):
    """A slide cannot be read, has no mpp, or holds no tissue."""


class StoreError(UserError):
    """A directory is not what a stage expects, was made with other settings, or is damaged."""


class EncoderError(UserError):
    """An encoder is unknown, unsupported, or its weights do not fit."""


class PartlyFailedError(DirlError):
    """Some items failed; everything else is finished and kept.

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
        # The user's mistake only when every failure is one.
        self.exit_code = max((e.exit_code for e in failures.values()), default=1)
        if any(e.exit_code == 1 for e in failures.values()):
            self.exit_code = 1
