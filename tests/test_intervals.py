"""Bootstrap intervals: units, coverage, pairing, missing values."""

import numpy as np
import pytest

from dirl.core.intervals import Estimate, Floats, Units, choose_units, estimate, means, ratios
from tests.known import width


def units(count: int, resamples: int = 2000, seed: int = 0) -> Units:
    return choose_units(np.array(["one"] * count), count, resamples, seed)


def interval(values: Floats, drawn: Units) -> Estimate:
    """The mean of one column, with its interval."""
    mean, resampled = means(values, drawn)
    return estimate(mean[0], resampled[:, 0])


def test_slides_are_the_units_from_five_on() -> None:
    four = choose_units(np.array(list("aabbccdd")), 8, 10, 0)
    five = choose_units(np.array(list("aabbccddee")), 10, 10, 0)
    assert (four.kind, len(four)) == ("tiles", 8)
    assert (five.kind, len(five)) == ("slides", 5)
    assert five.of_tile.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(3, 1, (400, 1))
    found = interval(values, units(400))
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.02)
    assert found.high == pytest.approx(values.mean() + half, abs=0.02)


def test_slides_widen_the_interval_when_tiles_of_a_slide_are_alike() -> None:
    slides = np.repeat([f"s{i}" for i in range(10)], 20)
    values = np.repeat(np.random.default_rng(0).normal(size=10), 20)[:, None]
    by_slide = interval(values, choose_units(slides, len(slides), 1000, 0))
    by_tile = interval(values, units(200, 1000))
    assert width(by_slide) > 3 * width(by_tile)


def test_missing_values_are_left_out() -> None:
    value, _ = means(np.array([[1.0, np.nan], [np.nan, np.nan], [3.0, np.nan]]), units(3))
    assert value[0] == 2 and np.isnan(value[1])
    assert estimate(value[1], np.full(4, np.nan)) == Estimate(None, None, None)


def test_equal_units_draw_equally() -> None:
    values = np.random.default_rng(0).normal(size=(50, 1))
    _, first = means(values, units(50))
    _, shifted = means(values + 1, units(50))
    np.testing.assert_allclose(shifted - first, 1)
    _, other = means(values, units(50, seed=1))
    assert not np.allclose(first, other)


def test_ratio_of_sums() -> None:
    above, below = np.array([[1.0], [0.0], [5.0]]), np.array([[2.0], [0.0], [1.0]])
    value, resampled = ratios(above, below, units(3, 500))
    assert value[0] == 2
    finite = resampled[np.isfinite(resampled)]
    assert finite.min() == 0.5 and finite.max() == 5


def test_classes_of_ready_made_tiles_are_not_slides():
    unknown = choose_units(None, 12, 10, 0)
    assert unknown.kind == "tiles" and len(unknown) == 12
