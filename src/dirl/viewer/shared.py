"""Values that many readers ask for at once, and that are worked out once."""

import threading
from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar, TypeVarTuple

Asked = TypeVarTuple("Asked")
Value = TypeVar("Value")


def shared(function: Callable[[*Asked], Value], size: int) -> Callable[[*Asked], Value]:
    """Keep the last `size` values of a function; readers who come at once wait for one call.

    `functools.lru_cache` alone calls the function for each of them.

    Parameters
    ----------
    function
        Its arguments can be hashed. It runs for one reader at a time.
    size
        How many values to keep.
    """
    lock = threading.Lock()
    kept = lru_cache(size)(function)

    def value(*asked: *Asked) -> Value:
        with lock:
            return kept(*asked)

    return value
