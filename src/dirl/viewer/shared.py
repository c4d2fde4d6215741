"""A cache for functions that many threads call at the same time."""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, TypeVarTuple

Asked = TypeVarTuple("Asked")
Value = TypeVar("Value")


def shared(function: Callable[[*Asked], Value], size: int) -> Callable[[*Asked], Value]:
    """Cache the last `size` values of a function. Threads that call it at the same time wait for one call.

    `functools.lru_cache` alone would call the function for each thread.

    Parameters
    ----------
    function
        A function with hashable arguments. Only one thread runs it at a time.
    size
        Number of cached values.
    """
    lock = threading.Lock()
    kept = lru_cache(size)(function)

    def value(*asked: *Asked) -> Value:
        with lock:
            return kept(*asked)

    return value
