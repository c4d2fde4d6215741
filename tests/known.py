"""Values that may be missing, and are there in a test."""

from typing import TypeVar

from dirl.core.intervals import Estimate

T = TypeVar("T")


def known(value: T | None) -> T:
    """The value itself, for the type checker too."""
    assert value is not None
    return value


def width(found: Estimate) -> float:
    """Width of an interval."""
    return known(found.high) - known(found.low)
