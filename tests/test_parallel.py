"""Reading ahead: in order, bounded, lazy, and with errors in their place."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirl.core.errors import ConfigError, DirlWarning
from dirl.core.parallel import each, read_ahead
from dirl.core.progress import say
from dirl.slides.discovery import TilesInput, add_cohort
from dirl.slides.glass import WHITE
from dirl.slides.tissue import warn_all_tissue


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


def test_a_warning_of_a_worker_is_shown_as_if_it_came_from_this_process():
    slides = [[("a", WHITE, 0.99)], [("b", WHITE, 0.5)], [("a", WHITE, 0.99)]]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("default")
        assert all(result is None for _, result in each(warn_all_tissue, slides, workers=2))
    (shown,) = warned  # each text once, however many processes warn
    assert shown.category is DirlWarning and re.search("no bare glass found.*: a", str(shown.message))


def test_a_line_of_a_worker_reaches_the_logger_of_this_process(caplog):
    with caplog.at_level(logging.INFO, "dirl"):
        assert [result for _, result in each(say, ["line of %s"], workers=2)] == [None]
    assert [(one.name, one.getMessage()) for one in caplog.records] == [("dirl", "line of %s")]


def test_a_worker_that_fails_has_warned_before(tmp_path):
    (tmp_path / "slides.csv").write_text("slide_id,mpp\na,0.5\nstranger,0.5\n")
    inputs = [TilesInput("a", tmp_path, ())]
    fail = partial(add_cohort, path=tmp_path / "slides.csv", quiet=True)
    with pytest.warns(DirlWarning, match="1 rows match no slide here, first 'stranger'"):
        [(_, error)] = each(fail, [inputs], workers=2)
    assert isinstance(error, ConfigError) and "messages" not in vars(error)
