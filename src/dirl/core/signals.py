"""SIGINT, SIGTERM and SIGHUP stop every command in the same way, and no worker outlives its parent.

While a command is at work, a handler raises `Stop` in the main thread, so that every ``finally`` on its way
removes what is half-written. A thread ends what does not end by itself within `GRACE_S`, also where the main
thread waits in a library for ever. A signal that the parent ignores, as ``nohup`` does, stays ignored.
"""

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from types import FrameType
from typing import Any, NoReturn

from dirl.core.errors import Interrupted

STOPPING = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What stops a command: Ctrl-C, a scheduler or a container, a terminal that was closed."""

FROM_TERMINAL = tuple(number for number in STOPPING if number != signal.SIGTERM)
"""Those that a terminal sends to all processes at once."""

SIGUSR1 = getattr(signal, "SIGUSR1", None)  # not on Windows
TO_ALL = STOPPING if SIGUSR1 is None else (*STOPPING, SIGUSR1)
"""Those that a scheduler sends to all processes of a job."""

GRACE_S = 3.0
WATCH_S = 0.5
AGAIN_S = 0.02  # until a signal is raised again that could not be, or was lost

FIRST_RANK = "DIRL_FIRST_RANK"
"""Environment variable: the process that starts further ranks of a pretraining run."""

_patience = 0
_silent = False
_worker = False
_limited = False
_taken = 0


class Stop(KeyboardInterrupt):
    """A signal came: raised in the main thread, where no ``except Exception`` swallows it.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def number_of(stop: KeyboardInterrupt) -> int:
    """Return the signal that stopped the work; a plain `KeyboardInterrupt` is Python's for SIGINT."""
    return stop.number if isinstance(stop, Stop) else int(signal.SIGINT)


def heeded(numbers: Iterable[int] = STOPPING) -> list[int]:
    """Leave out the signals that the parent of this process ignores, as ``nohup`` does."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handling(handler: Any, numbers: Iterable[int] = STOPPING) -> Iterator[None]:
    """Handle signals in a block; in a thread that is not the main one, leave them as they are."""
    earlier: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        earlier = {number: signal.signal(number, handler) for number in heeded(numbers)}
    try:
        yield
    finally:
        for number, before in earlier.items():
            signal.signal(number, before)


@contextmanager
def stopping() -> Iterator[None]:
    """Let a signal stop the command that runs in this block; see `Stop`."""
    before = sys.unraisablehook

    def hook(swallowed: "sys.UnraisableHookArgs") -> None:
        # What is raised while Python clears an object away is lost.
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


def raising() -> Any:
    """Let a signal raise `Stop` in this block, also where this is no command but another's program."""
    return handling(_raise, [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL])


def leave_at_once() -> None:
    """Let a signal end this process: for a program that has nothing to clear away yet, or no more."""
    begin_rank()
    _limit_time()
    # A signal can end multiprocessing's own process, which then says what it had to clear up.
    sys.warnoptions.append("ignore:resource_tracker:UserWarning")  # for the processes that are started
    warnings.filterwarnings("ignore", "resource_tracker", UserWarning)
    for number in heeded():
        signal.signal(number, _leave)


def take_the_word() -> None:
    """Say nothing when this process is ended for being slow: the caller says it."""
    global _silent
    _silent = True


@contextmanager
def patient() -> Iterator[None]:
    """Let what is done in this block take its time when a signal has come, as a training step may."""
    global _patience
    _patience += 1
    try:
        yield
    finally:
        _patience -= 1


@contextmanager
def starting(numbers: Iterable[int] = FROM_TERMINAL) -> Iterator[None]:
    """Hold signals back while processes are started: they inherit that, and the terminal's never reach them.

    This process gets its own when the block is left.
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
    """Make this process one that ends with its parent, and that leaves all words to it."""
    global _worker
    _worker = True
    _limit_time()
    parent = parent_process()
    end_with_parent(os.getppid() if parent is None or parent.pid is None else parent.pid)


def begin_rank() -> None:
    """Do as `begin_worker` where this process is a rank that another one started; once is enough."""
    first = os.environ.get(FIRST_RANK)
    if _worker or first in (None, str(os.getpid())):
        return
    if first != str(os.getppid()):
        os._exit(0)  # the first rank has ended before this one had begun
    begin_worker()


@contextmanager
def starting_ranks() -> Iterator[None]:
    """Let processes that are started in this block know by their environment that they are ranks."""
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
    """Make this process, which only reads for a torch loader, one that goes on until the loader ends it.

    A trainer whose readers are gone cannot finish its step and save. Start readers within `starting`.
    """
    for number in TO_ALL:
        signal.signal(number, signal.SIG_IGN)
    begin_worker()


def end_with_parent(parent: int) -> None:
    """End this process soon after `parent`, which started it, even if that was killed."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
        os._exit(1)

    threading.Thread(target=watch, name="watch on the parent", daemon=True).start()


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    raise Stop(number)


def _stop(number: int, frame: FrameType | None) -> None:
    for each in heeded():  # one signal is enough: what clears up is left in peace
        signal.signal(each, signal.SIG_IGN)
    if hasattr(signal, "SIGCHLD"):  # torch's handler raises when a process that reads has been ended
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in active_children():
        # Daemons only read, for torch; others may have something to clear away.
        child.kill() if child.daemon else child.terminate()
    _raise_outside_imports(number, frame)


def _raise_outside_imports(number: int, frame: FrameType | None) -> None:
    """Raise `Stop`; after an import that runs, since libraries swallow or print what is raised in one."""
    if not _importing(frame):
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
    _raise_outside_imports(_taken, frame)


def _limit_time() -> None:
    """End this process `GRACE_S` after a signal that stops it. Python's handlers wait for the main thread."""
    global _limited
    if _limited or not hasattr(os, "register_at_fork"):  # Windows takes no pipe for it
        return
    _limited = True
    told, tell = os.pipe()
    os.set_blocking(tell, False)
    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child's signals are its own
    threading.Thread(target=_leave_late, args=(told,), name="limit of time", daemon=True).start()


def _leave_late(told: int) -> None:
    while (number := os.read(told, 1)[0]) not in STOPPING:
        pass
    left = GRACE_S
    while left > 0:
        time.sleep(0.1)
        left -= 0 if _patience else 0.1
    _leave(number)


def _leave(number: int, frame: FrameType | None = None) -> NoReturn:
    interrupted = Interrupted(number)
    for child in active_children():
        child.kill()
    if _worker:
        os._exit(0)  # any other code of a rank has Lightning kill all, where the first may be clearing up
    if not _silent:
        cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # which progress bars hide
        # Not through sys.stderr, which the main thread may hold.
        os.write(2, f"{cursor}error: {interrupted}\n".encode(sys.stderr.encoding or "utf-8", "replace"))
    os._exit(interrupted.exit_code)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
