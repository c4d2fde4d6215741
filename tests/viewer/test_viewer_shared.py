"""Values that are worked out once for all who ask."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from dirl.viewer.scene import cached_for_threads


def test_readers_who_come_at_once_share_one_call():
    calls, gate = [], threading.Barrier(8)

    def slow(key):
        calls.append(key)
        time.sleep(0.05)
        return [key]

    value = cached_for_threads(slow, 4)

    def read(_):
        gate.wait(20)
        return value("a")

    with ThreadPoolExecutor(8) as readers:
        found = list(readers.map(read, range(8)))
    assert calls == ["a"]
    assert all(one is found[0] for one in found) and found[0] == ["a"]


def test_only_the_last_values_are_kept():
    calls = []

    def call(key):
        calls.append(key)
        return key

    value = cached_for_threads(call, 2)
    assert [value(key) for key in "abcba"] == list("abcba")
    assert calls == ["a", "b", "c", "a"]


def test_an_error_is_raised_and_not_kept():
    answers = iter([ValueError("damaged"), None])

    def call():
        error = next(answers)
        if error is not None:
            raise error
        return "mended"

    value = cached_for_threads(call, 2)
    with pytest.raises(ValueError, match="damaged"):
        value()
    assert value() == "mended"
