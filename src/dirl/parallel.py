"""The one place where independent items fan out: slides over processes, reading over threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

from dirl.errors import DirlError

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int = 1
) -> Iterator[tuple[Item, Result | Exception]]:
    """Apply `function` to every item, and yield each with its result or its exception as it completes.

    Parameters
    ----------
    function
        A picklable function of one item.
    items
        Picklable items; taken up lazily, so they may be many.
    workers
        Processes. With 1 everything runs here, in order.

    Yields
    ------
    tuple
        The item, and what the function returned or raised.

    Raises
    ------
    DirlError
        If the system killed a process, as it does when memory runs out.
    """
    if workers <= 1:
        for item in items:
            yield item, _attempt(function, item)
        return
    pending: dict[Future[Result], Item] = {}
    # spawn: forking a process that has threads (BLAS, OpenSlide) can deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            for item in items:
                pending[pool.submit(function, item)] = item
                while len(pending) >= 2 * workers:
                    yield from _completed(pending)
            while pending:
                yield from _completed(pending)
        except BrokenProcessPool:
            reason = "the system killed a process, most likely for want of memory"
            remedy = "run the same command again with fewer workers; what is finished is kept"
            raise DirlError(reason, where=f"{workers} workers", remedy=remedy) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def read_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, ahead: int
) -> Generator[tuple[Item, Result | Exception], None, None]:
    """Apply `function` to items in threads, some items ahead of what is asked for, and yield them in order.

    Parameters
    ----------
    function
        A function of one item that mostly lets go of the interpreter, as reading and decoding do.
    items
        Taken up lazily, in the caller's thread.
    threads
        How many.
    ahead
        How many items are at work, or done and waiting, while the caller is busy.

    Yields
    ------
    tuple
        The item, and what the function returned or raised.
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


def _completed(pending: dict[Future[Result], Item]) -> Iterator[tuple[Item, Result | Exception]]:
    done, _ = wait(pending, return_when=FIRST_COMPLETED)
    for future in done:
        item = pending.pop(future)
        error = future.exception()
        if isinstance(error, BrokenProcessPool) or (error is not None and not isinstance(error, Exception)):
            raise error
        yield item, future.result() if error is None else error


def _attempt(function: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return function(item)
    except Exception as error:
        return error
