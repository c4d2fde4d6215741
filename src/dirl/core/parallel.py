"""Parallel work on independent items: slides in processes, reading in threads."""

import logging
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from logging.handlers import QueueHandler
from multiprocessing import get_context
from queue import SimpleQueue
from typing import Any, TypeVar

from dirl.core.errors import DirlError, Interrupted
from dirl.core.signals import begin_worker, starting, stopping

Item = TypeVar("Item")
Result = TypeVar("Result")

# A line of the logger, or a warning: its text, category, file and line.
Message = logging.LogRecord | tuple[str, type[Warning], str, int]

CLEARING_S = 1.5  # time for a process to remove its unfinished files
_unsent: SimpleQueue[Message] = SimpleQueue()  # messages of this worker
_warned: dict[Any, Any] = {}  # warnings of workers that were shown; Python shows each text once


def available_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Apply `function` to every item. Yield each item with its result or exception when it completes.

    Function and items must be picklable. Items are consumed lazily, so there may be many. With one worker
    everything runs in this process, in order. Warnings and lines of the logger ``dirl`` are shown as if it
    always did.

    Raises
    ------
    DirlError
        If the system killed a process, for example because memory ran out.
    KeyboardInterrupt, Interrupted
        If a signal came. The processes end at once, without finishing their items.
    """
    if workers <= 1:
        for item in items:
            yield item, _attempt(function, item)
        return
    pending: dict[Future[tuple[Result, list[Message]]], Item] = {}
    # spawn: forking a process that has threads (BLAS, OpenSlide) can deadlock.
    with ProcessPoolExecutor(workers, get_context("spawn"), begin_silent_worker) as pool:
        try:
            for item in items:
                with starting():
                    pending[pool.submit(_carry_out, function, item)] = item
                while len(pending) >= 2 * workers:
                    yield from _completed(pending)
            while pending:
                yield from _completed(pending)
        except BrokenProcessPool:
            reason = "the system killed a process, most likely because memory ran out"
            remedy = "run the same command again with fewer workers; finished items are kept"
            raise DirlError(reason, where=f"{workers} workers", remedy=remedy) from None
        except BaseException:
            _end(pool)
            raise


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Apply `function` to items in threads, and yield each with its result or exception, in order.

    The function should mostly release the GIL, as reading and decoding do. Items are consumed lazily in the
    caller's thread. At most `ahead` are in work or waiting while the caller is busy.
    """
    pending: deque[tuple[Item, Future[Result | Exception]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append((item, pool.submit(_attempt, function, item)))
                if len(pending) > ahead:
                    first, future = pending.popleft()
                    yield first, future.result()
            for first, future in pending:
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _completed(
    pending: dict[Future[tuple[Result, list[Message]]], Item],
) -> Iterator[tuple[Item, Result | Exception]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        item = pending.pop(future)
        error = future.exception()
        if error is None:
            result, messages = future.result()
            show_messages(messages)
            yield item, result
        elif isinstance(error, Exception) and not isinstance(error, BrokenProcessPool | Interrupted):
            show_messages(error.__dict__.pop("messages", []))
            yield item, error
        else:
            raise error


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Interrupted:  # an interrupted item must end the whole
        raise
    except Exception as error:
        return error


def begin_silent_worker() -> None:
    """Begin a process that keeps its messages: only the first process knows how to show them."""
    begin_worker()
    warnings.showwarning = lambda message, category, filename, lineno, *_: _unsent.put(
        (str(message), category, filename, lineno)
    )
    logger = logging.getLogger("dirl")
    logger.setLevel(logging.INFO)
    logger.handlers = [QueueHandler(_unsent)]


def take_messages() -> list[Message]:
    """Return the messages that this process has kept since the last call."""
    return [_unsent.get() for _ in range(_unsent.qsize())]


def show_messages(messages: Iterable[Message]) -> None:
    """Show messages of a worker, by the filters and handlers of this process."""
    for message in messages:
        if isinstance(message, tuple):
            warnings.warn_explicit(*message, registry=_warned)
        elif (logger := logging.getLogger(message.name)).isEnabledFor(message.levelno):
            logger.handle(message)


def _carry_out(function: Callable[[Item], Result], item: Item) -> tuple[Result, list[Message]]:
    """Apply a function in a process of a pool that a signal can end. Return its messages, too."""
    try:
        with stopping():
            return function(item), take_messages()
    except Exception as error:
        error.__dict__["messages"] = take_messages()
        raise
    except KeyboardInterrupt:  # the pool would treat it as a result and continue
        os._exit(1)


def _end(pool: ProcessPoolExecutor) -> None:
    """End a pool's processes; with `shutdown` alone they would finish their items."""
    processes = list((pool._processes or {}).values())  # from Python 3.14 on: pool.terminate_workers()
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    late = time.monotonic() + CLEARING_S
    for process in processes:
        process.join(max(0.0, late - time.monotonic()))
        process.kill()
