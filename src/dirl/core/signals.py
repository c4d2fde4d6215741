"""SIGINT, SIGTERM and SIGHUP stop every command in the same way, and no worker outlives its parent.

While a command runs, a handler raises `Stop` in the main thread, and each ``finally`` removes unfinished
files. After `GRACE_S` a thread ends the process, even if the main thread is blocked in a library. A signal
that the parent ignores, as ``nohup`` does, stays ignored.
"""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import active_children, parent_process
from types import FrameType
from typing import Any, NoReturn, TypeVar

from dirl.core.errors import Interrupted

T = TypeVar("T")

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Signals that stop a command: from Ctrl-C, from a scheduler or a container, from a closed terminal."""

FROM_TERMINAL = tuple(number for number in STOPPING if number != signal.SIGTERM)
"""Signals that a terminal sends to all processes at once."""

SIGUSR1 = getattr(signal, "SIGUSR1", None)  # not on Windows
TO_ALL = STOPPING if SIGUSR1 is None else (*STOPPING, SIGUSR1)
"""Signals that a scheduler sends to all processes of a job."""

GRACE_S = 3.0
WATCH_S = 0.5
AGAIN_S = 0.02  # delay before a signal that was lost is raised again

FIRST_RANK = "DIRL_FIRST_RANK"
"""Environment variable: id of the process that starts the other ranks of a pretraining run."""

_patience = 0
_silent = False
_worker = False
_limited = False
_taken = 0


Handler = Callable[[int, FrameType | None], Any] | int | None


class Stop(KeyboardInterrupt):
    """A signal of this number came. Raised in the main thread, it passes any ``except Exception``."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def number_of(stop: KeyboardInterrupt) -> int:
    """Return the number of the signal; Python raises a plain `KeyboardInterrupt` for SIGINT."""
    return stop.number if isinstance(stop, Stop) else int(signal.SIGINT)


def not_ignored(numbers: Iterable[int] = STOPPING) -> list[int]:
    """Return the signals that the parent of this process does not ignore; ``nohup`` ignores SIGHUP."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handling(handler: Handler, numbers: Iterable[int] = STOPPING) -> Iterator[None]:
    """Handle signals in a block. Outside the main thread nothing changes."""
    earlier: dict[int, Handler] = {}
    if threading.current_thread() is threading.main_thread():
        earlier = {number: signal.signal(number, handler) for number in not_ignored(numbers)}
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


@contextmanager
def stopping() -> Iterator[None]:
    """Let a signal stop the command in this block; see `Stop`."""
    before = sys.unraisablehook

    def hook(swallowed: "sys.UnraisableHookArgs") -> None:
        # Python drops exceptions that are raised while it deletes an object.
        if isinstance(swallowed.exc_value, Stop):
            _raise_later(swallowed.exc_value.number)
        else:
            before(swallowed)

    sys.unraisablehook = hook
    try:
        with handling(_stop):
            yield
    finally:
        sys.unraisablehook = before
        if hasattr(signal, "setitimer") and signal.getsignal(signal.SIGALRM) is _raise_now:
            signal.setitimer(signal.ITIMER_REAL, 0)


def raising_stop() -> AbstractContextManager[None]:
    """Let a signal raise `Stop` in this block, even if another program calls dirl's functions."""
    return handling(_raise, [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL])


def leave_at_once() -> None:
    """Let a signal end this process at once: before and after a command, there is nothing to remove."""
    begin_rank()
    _limit_time()
    # If a signal ends multiprocessing's resource tracker, it warns of what it had to remove.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # for the processes that are started
    warnings.filterwarnings("ignore", "resource_tracker", UserWarning)
    for number in not_ignored():
        signal.signal(number, _leave)


def stay_silent() -> None:
    """Print nothing if this process is ended after `GRACE_S`: the caller prints the message."""
    global _silent
    _silent = True


@contextmanager
def patient() -> Iterator[None]:
    """Suspend `GRACE_S` in this block: a training step may take longer."""
    global _patience
    _patience += 1
    try:
        yield
    finally:
        _patience -= 1


@contextmanager
def starting(numbers: Iterable[int] = FROM_TERMINAL) -> Iterator[None]:
    """Block signals while processes start. They inherit the block and never get the terminal's signals.

    This process gets its signals when the block ends.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def begin_worker() -> None:
    """Make this process a worker: it ends with its parent, and prints nothing."""
    global _worker
    _worker = True
    _limit_time()
    # A signal that comes while `stopping` ends must find a handler: with the default, Python loses it.
    for number in not_ignored():
        signal.signal(number, _leave)
    parent = parent_process()
    end_with_parent(os.getppid() if parent is None or parent.pid is None else parent.pid)


def begin_rank() -> None:
    """Call `begin_worker` if this process is a rank that another process started."""
    first = os.environ.get(FIRST_RANK)
    if _worker or first in (None, str(os.getpid())):
        return
    if first != str(os.getppid()):
        os._exit(0)  # the first rank ended before this one started
    begin_worker()


@contextmanager
def starting_ranks() -> Iterator[None]:
    """Mark processes that start in this block as ranks, by their environment."""
    before = os.environ.get(FIRST_RANK)
    if before != str(os.getppid()):
        os.environ[FIRST_RANK] = str(os.getpid())
    try:
        yield
    finally:
        if before is None:
            del os.environ[FIRST_RANK]
        else:
            os.environ[FIRST_RANK] = before


def begin_reader(worker: int) -> None:
    """Make this process a reader for a torch loader: it runs until the loader ends it.

    A trainer without readers cannot finish its step and save. Start readers within `starting`.
    """
    for number in TO_ALL:
        signal.signal(number, signal.SIG_IGN)
    begin_worker()


def as_read(batch: T) -> T:
    """Return what a dataset read: the torch loader's collate function if the dataset reads whole batches.

    It has a name because spawned readers cannot unpickle a lambda.
    """
    return batch


def end_with_parent(parent: int) -> None:
    """End this process soon after its parent, even if the parent was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch on the parent", daemon=True).start()


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Stop(number)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in not_ignored():  # further signals must not interrupt the removal of files
        signal.signal(each, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):  # torch's handler raises if a reader was ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in active_children():
        # Daemons only read for torch. Others may have files to remove.
        child.kill() if child.daemon else child.terminate()
    _raise_when_safe(number, frame)


def _raise_when_safe(number: int, frame: FrameType | None) -> None:
    """Raise `Stop`, but not where a library would swallow, print or replace it: then raise it later."""
    if not _would_be_lost(frame):
        raise Stop(number)
    _raise_later(number)


def _raise_later(number: int) -> None:
    global _taken
    _taken = number
    if not hasattr(signal, "setitimer"):  # Windows
        _leave(number)
    signal.signal(signal.SIGALRM, _raise_now)
    signal.setitimer(signal.ITIMER_REAL, AGAIN_S)


def _raise_now(alarm: int, frame: FrameType | None) -> None:
    _raise_when_safe(_taken, frame)


def _limit_time() -> None:
    """End this process `GRACE_S` after a signal, by a thread: handlers wait for the main thread."""
    global _limited
    if _limited or not hasattr(os, "register_at_fork"):  # Windows accepts no pipe here
        return
    _limited = True
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child has its own signals
    threading.Thread(target=_leave_late, args=(read_end,), name="limit of time", daemon=True).start()


def _leave_late(read_end: int) -> None:
    while (number := os.read(read_end, 1)[0]) not in STOPPING:
        pass
    left, before = GRACE_S, time.monotonic()
    while left > 0:
        time.sleep(0.1)
        now = time.monotonic()  # on a busy machine, a sleep takes longer than asked
        left -= 0 if _patience else now - before
        before = now
    _leave(number)


def _leave(number: int, frame: FrameType | None = None) -> NoReturn:
    interrupted = Interrupted(number)
    for child in active_children():
        child.kill()
    if _worker:
        os._exit(0)  # with another code Lightning kills all ranks, and the first may be removing files
    if not _silent:
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # progress bars hide the cursor
        # Not through sys.stderr: the main thread may hold its lock.
        os.write(2, f"{cursor}error: {interrupted}\n".encode(sys.stderr.encoding or "utf-8", "replace"))
    os._exit(interrupted.exit_code)


def _would_be_lost(frame: FrameType | None) -> bool:
    """Whether an import runs or ctypes converts an argument: an exception there becomes an ArgumentError."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name == "from_param":
            return True
        frame = frame.f_back
    return False
