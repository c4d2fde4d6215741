"""The colour baselines against numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dirl.store.colour import colour_histogram, colour_statistics

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 5), st.just(3)))


def test_by_hand():
    image = np.array([[[0, 0, 0], [255, 0, 255]]], np.uint8)
    np.testing.assert_allclose(colour_statistics(image), [0.5, 0, 0.5, 0.5, 0, 0.5])
    histogram = colour_histogram(image)
    assert set(np.flatnonzero(histogram).tolist()) == {0, 7 * 64 + 7}
    assert histogram[0] == pytest.approx(np.sqrt(0.5))


@given(IMAGES)
def test_they_do_not_know_where_a_pixel_is(image):
    shuffled = np.random.default_rng(0).permutation(image.reshape(-1, 3)).reshape(1, -1, 3)
    np.testing.assert_array_equal(colour_histogram(image), colour_histogram(shuffled))
    np.testing.assert_allclose(colour_statistics(image), colour_statistics(shuffled), atol=1e-6)
    pixels = image.reshape(-1, 3) / 255
    expected = np.r_[pixels.mean(0), pixels.std(0)]
    np.testing.assert_allclose(colour_statistics(image), expected, atol=1e-6)
    assert np.linalg.norm(colour_histogram(image)) == pytest.approx(1, abs=1e-6)
