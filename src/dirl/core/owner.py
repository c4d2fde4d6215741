"""One owner a directory: an exclusive lock with the owner's host, process and start.

The lock is `filelock.FileLock` on ``.lock`` in the directory, an ``flock`` of the system. The system releases
it when its owner ends, however it ends, so a dead owner's directory is free at once. Linux sends ``flock`` to
the server of an NFS mount, so that it holds between hosts. On a mount with ``nolock`` it holds on one host.
``.owner.json`` is for messages: it says who holds the lock, and decides nothing.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from dirl.core.boundary import inside
from dirl.core.errors import InUseError, from_system
from dirl.core.files import PART, read_json, remove, remove_parts, write_json

LOCK, OWNER, ITEM_LOCKS = ".lock", ".owner.json", ".locks"
# What in a directory is no content of it.
OURS = frozenset({LOCK, OWNER, ITEM_LOCKS})
MERGE_SECONDS = 600  # how long to wait for another process that writes an index

P = ParamSpec("P")
R = TypeVar("R")
_held: ContextVar[tuple[ExitStack, set[Path]] | None] = ContextVar("held", default=None)


def owning(stage: Callable[P, R]) -> Callable[P, R]:
    """Release, when a stage's call ends, every directory that `own` took in it."""

    @wraps(stage)
    def run(*args: P.args, **options: P.kwargs) -> R:
        with ExitStack() as stack:
            before = _held.set((stack, set()))
            stack.callback(_held.reset, before)
            return stage(*args, **options)

    return run


def in_stage() -> bool:
    """Whether a function decorated with `owning` runs."""
    return _held.get() is not None


def own(directory: Path) -> None:
    """Own a directory until the stage that asks ends; see `owning`.

    The directory is made if it is missing. What dead owners were writing is removed.

    Raises
    ------
    InUseError
        If another process, or another call in this one, owns it.
    """
    held = _held.get()
    assert held is not None, "only a function decorated with `owning` can own a directory"
    stack, directories = held
    place = directory.resolve()
    if place not in directories:
        stack.enter_context(locked(directory))
        directories.add(place)
        remove_stale(directory)


@contextmanager
def locked(directory: Path, wait_s: float = 0) -> Iterator[None]:
    """Own a directory while the block runs.

    Parameters
    ----------
    directory
        Made if it is missing.
    wait_s
        How many seconds to wait for another owner.

    Raises
    ------
    InUseError
        If another owner holds it for longer.
    """
    with _lock(directory / LOCK, directory / OWNER, directory, wait_s):
        yield


@contextmanager
def item_locked(directory: Path, name: str) -> Iterator[None]:
    """Own one item of a directory that several processes fill, as a slide of a store, while the block runs.

    Raises
    ------
    InUseError
        If another process works on the item.
    StoreError
        If the name leads out of the directory.
    """
    lock = inside(directory / ITEM_LOCKS, f"{name}.lock")
    with _lock(lock, lock.with_suffix(".json"), f"{directory}: {name}", 0):
        yield


def refuse_if_items_locked(directory: Path) -> None:
    """Refuse to replace a directory while other processes work on items of it.

    Raises
    ------
    InUseError
        Naming the first of them.
    """
    for lock in sorted((directory / ITEM_LOCKS).rglob("*.lock")):
        with _lock(lock, lock.with_suffix(".json"), directory, 0):
            pass


def content(directory: Path) -> list[Path]:
    """List the files of a directory and of its folders, without locks and parts of files, by name."""
    files = []
    for path in sorted(directory.iterdir()):
        if path.name in OURS or PART.fullmatch(path.name):
            continue
        files += content(path) if path.is_dir() and not path.is_symlink() else [path]
    return files


def remove_stale(directory: Path, *, deep: bool = True) -> None:
    """Remove the parts of files that dead owners left; the caller owns the directory.

    Parameters
    ----------
    directory
        The directory. A folder in it that is a result of its own is left alone.
    deep
        Whether to go through its folders, too.
    """
    for path in sorted(directory.iterdir()):
        if PART.fullmatch(path.name):
            remove(path)
        elif deep and path.is_dir() and not path.is_symlink() and not _owned_apart(path):
            remove_stale(path)


def _owned_apart(folder: Path) -> bool:
    return (folder / "card.json").exists() or (folder / LOCK).exists()


@contextmanager
def _lock(lock: Path, owner: Path, where: object, wait_s: float) -> Iterator[None]:
    try:
        held = _acquire(lock, wait_s)
    except Timeout:
        raise InUseError(
            f"in use by {_whose(owner)}",
            where=where,
            remedy="wait until that has ended, or name another directory",
        ) from None
    except OSError as error:
        raise from_system(error, lock) from error
    try:
        remove_parts(owner.parent, owner.stem)  # of a dead owner
        me = {"host": socket.gethostname(), "pid": os.getpid(), "started": _now()}
        write_json(owner, me)
        yield
    finally:
        with suppress(OSError):  # a file that is left does no harm: the lock on it counts
            owner.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        held.release()
        if lock.parent.name == ITEM_LOCKS:
            with suppress(OSError):  # other items are worked on
                lock.parent.rmdir()


def _acquire(lock: Path, wait_s: float) -> FileLock:
    """Lock the file that `lock` names, and not one that its last owner has just removed."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=wait_s, thread_local=False)
        try:
            # Held open, the file's number is not given to another file.
            before = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder went in between
            continue
        try:
            held.acquire()
            if os.path.samestat(os.fstat(before), lock.stat()):
                return held
            held.release()
        except FileNotFoundError:
            held.release()
        finally:
            os.close(before)


def _whose(owner: Path) -> str:
    try:
        found = read_json(owner)
        return f"process {found['pid']} on {found['host']}, since {found['started']}"
    except Exception:  # it is being written, or is gone
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
