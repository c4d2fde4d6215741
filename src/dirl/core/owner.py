"""One owner per directory: an exclusive lock with the owner's host, process and start time.

The lock is `filelock.FileLock` on ``.lock`` in the directory, which uses ``flock``. The system releases it
when its owner ends in any way, so a dead owner's directory is free at once. Linux sends ``flock`` to the
server of an NFS mount, so it works between hosts. On a mount with ``nolock`` it works on one host.
``.owner.json`` is only for messages: it names the owner of the lock.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from filelock import FileLock, Timeout

from dirl.core.boundary import inside
from dirl.core.errors import NO_ROOM, Interrupted, InUseError, from_system
from dirl.core.files import read_json, remove, remove_parts, time_now, write_json
from dirl.core.layout import CARD, COHORT_PARTS, ITEM_LOCKS, LOCK, NOT_CONTENT, OWNER, PART

MERGE_SECONDS = 600  # longest wait for another process that writes an index

P = ParamSpec("P")
R = TypeVar("R")
_held: ContextVar["_Held | None"] = ContextVar("held", default=None)


@dataclass(frozen=True)
class _Held:
    """What a running stage owns: its locks, the locked directories, and the folders that it made."""

    stack: ExitStack
    directories: set[Path] = field(default_factory=set)
    made: list[Path] = field(default_factory=list)


def owning(stage: Callable[P, R]) -> Callable[P, R]:
    """Decorate a stage: when its call ends, every directory that it took with `own` is released.

    A library may report a full disk without a file. The error then names the directory. A stage that fails
    before its first result leaves no directory that it made; see `will_make`.
    """

    @wraps(stage)
    def run(*args: P.args, **options: P.kwargs) -> R:
        made: list[Path] = []
        try:
            with ExitStack() as stack:
                held = _Held(stack, made=made)
                before = _held.set(held)
                stack.callback(_held.reset, before)
                try:
                    return stage(*args, **options)
                except OSError as error:
                    if error.errno not in NO_ROOM or error.filename is not None or not held.directories:
                        raise
                    raise from_system(error, min(held.directories)) from error
        except Interrupted:
            raise
        except Exception:
            for folder in made:
                _remove_empty(folder)
            raise

    return run


def will_make(directory: Path) -> None:
    """Note which folders on the way to a new output the running stage is about to make."""
    held = _held.get()
    if held is not None:
        held.made.extend(folder for folder in (directory, *directory.parents) if not folder.exists())


def _remove_empty(folder: Path) -> None:
    """Remove a folder without a result or a part's record. Another process may have begun to work in it."""
    with suppress(OSError, InUseError):
        if (folder / COHORT_PARTS).exists() or any(path.name != CARD for path in content(folder)):
            return
        with locked(folder):
            refuse_if_items_locked(folder)
            for path in folder.iterdir():
                if path.name not in {LOCK, OWNER}:
                    remove(path)
        folder.rmdir()


def in_stage() -> bool:
    """Whether a function decorated with `owning` is running."""
    return _held.get() is not None


def own(directory: Path) -> None:
    """Own a directory until the calling stage ends; see `owning`.

    The directory is made if it is missing. Unfinished files of dead owners are removed. An `InUseError` tells
    that another process, or another call in this one, owns it.
    """
    held = _held.get()
    assert held is not None, "only a function decorated with `owning` can own a directory"
    place = directory.resolve()
    if place not in held.directories:
        held.stack.enter_context(locked(directory))
        held.directories.add(place)
        remove_stale(directory)


@contextmanager
def locked(directory: Path, wait_s: float = 0) -> Iterator[None]:
    """Own a directory while the block runs, and make it if it is missing.

    An `InUseError` tells that another owner holds it for longer than `wait_s` seconds.
    """
    with _lock(directory / LOCK, directory / OWNER, directory, wait_s):
        yield


@contextmanager
def item_locked(directory: Path, name: str) -> Iterator[None]:
    """Own one item of a directory, such as a slide of a store, while the block runs.

    Several processes can then fill the same directory. An `InUseError` tells that another process works on
    the item.
    """
    lock = inside(directory / ITEM_LOCKS, f"{name}.lock")
    with _lock(lock, lock.with_suffix(".json"), f"{directory}: {name}", 0):
        yield


def refuse_if_items_locked(directory: Path) -> None:
    """Raise an `InUseError` if other processes work on items of a directory that is to be replaced."""
    for lock in sorted((directory / ITEM_LOCKS).rglob("*.lock")):
        with _lock(lock, lock.with_suffix(".json"), directory, 0):
            pass


def content(directory: Path) -> list[Path]:
    """List the files of a directory and of its folders by name, without locks and unfinished files."""
    files = []
    for path in sorted(directory.iterdir()):
        if path.name in NOT_CONTENT or PART.fullmatch(path.name):
            continue
        files += content(path) if path.is_dir() and not path.is_symlink() else [path]
    return files


def remove_stale(directory: Path) -> None:
    """Remove unfinished files of dead owners, in all folders of a directory that the caller owns.

    Outputs inside it with a card or a lock of their own are skipped.
    """
    for path in sorted(directory.iterdir()):
        if PART.fullmatch(path.name):
            remove(path)
        elif path.is_dir() and not path.is_symlink() and not _is_output(path):
            remove_stale(path)


def remove_stale_of_shared(directory: Path) -> None:
    """Remove unfinished files of dead owners from a directory that other processes may fill item by item.

    While an item is in work, nothing is removed. Who makes an item again removes its unfinished files.
    """
    found = [path for path in directory.iterdir() if PART.fullmatch(path.name)]
    # After the search: an item whose file was found is still in work, or its file has its final name.
    if not any((directory / ITEM_LOCKS).rglob("*.lock")):
        for path in found:
            remove(path)


def _is_output(folder: Path) -> bool:
    return (folder / CARD).exists() or (folder / LOCK).exists()


@contextmanager
def _lock(lock: Path, owner: Path, where: object, wait_s: float) -> Iterator[None]:
    try:
        held = _acquire(lock, wait_s)
    except Timeout:
        raise InUseError(
            f"in use by {_describe(owner)}",
            where=where,
            remedy="wait until it has ended, or give another directory",
        ) from None
    except OSError as error:
        raise from_system(error, lock) from error
    try:
        remove_parts(owner.parent, owner.stem)  # left by a dead owner
        me = {"host": socket.gethostname(), "pid": os.getpid(), "started": time_now()}
        write_json(owner, me)
        yield
    finally:
        with suppress(OSError):  # a remaining file is harmless: only the lock on it counts
            owner.unlink(missing_ok=True)
            lock.unlink(missing_ok=True)
        held.release()
        if lock.parent.name == ITEM_LOCKS:
            with suppress(OSError):  # other items are in use
                lock.parent.rmdir()


def _acquire(lock: Path, wait_s: float) -> FileLock:
    """Lock the file `lock`. If its last owner has just removed it, make it again."""
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=wait_s, thread_local=False)
        try:
            # While the file is open, its inode number is not reused.
            before = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:  # the folder was removed in between
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


def _describe(owner: Path) -> str:
    try:
        found = read_json(owner)
        return f"process {found['pid']} on {found['host']}, since {found['started']}"
    except Exception:  # it is being written, or was removed
        return "another process"
