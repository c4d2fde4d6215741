"""Reading ahead: in order, bounded, lazy, and with errors in their place."""

import threading
from collections.abc import Iterator

from hypothesis import given
from hypothesis import strategies as st

from dirl.core.parallel import read_ahead


@given(st.integers(0, 40), st.integers(1, 4), st.integers(0, 9))
def test_in_order_and_no_further_ahead_than_asked(count: int, threads: int, ahead: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(count):
            taken.append(i)
            yield i

    for number, (item, result) in enumerate(read_ahead(lambda i: i * i, items(), threads, ahead)):
        assert (item, result) == (number, number**2)
        assert len(taken) <= number + 1 + ahead
    assert taken == list(range(count))


def test_an_error_stands_in_the_place_of_its_item() -> None:
    found = [result for _, result in read_ahead(lambda i: 1 // i, [1, 0, 1], 2, 2)]
    assert found[::2] == [1, 1] and isinstance(found[1], ZeroDivisionError)


def test_it_goes_on_while_the_caller_is_busy_and_stops_when_it_is_closed() -> None:
    started = threading.Semaphore(0)
    reading = read_ahead(lambda i: started.release(), range(100), 1, 3)
    next(reading)
    for _ in range(4):  # the one that was given, and three ahead
        assert started.acquire(timeout=10)
    reading.close()
    assert not started.acquire(blocking=False)
