"""Two label images on one grid: another resolution is brought over, a crop is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.cells.scoring.alignment import on_one_grid
from dirl.cells.scoring.sources import LabelImage
from dirl.core.errors import ConfigError
from tests.known import known


def drawn(height=12, width=20, seed=0):
    return np.random.default_rng(seed).integers(0, 9, (height, width)).astype(np.int32)


def enlarged(labels, times):
    return labels.repeat(times, 0).repeat(times, 1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 30), st.integers(1, 30))
def test_another_resolution_is_the_same_image(times, height, width):
    labels = drawn(height, width)
    large = LabelImage(enlarged(labels, times), mpp=0.5 / times)
    for ours, theirs, mpp in (
        (LabelImage(labels, mpp=0.5), large, None),
        (large, LabelImage(labels, mpp=0.5), None),
        (large, large, 0.5),
    ):
        predicted, truth = on_one_grid(ours, theirs, mpp)
        assert np.array_equal(predicted.labels, truth.labels)
        expected = labels if mpp else theirs.labels
        assert np.array_equal(truth.labels, expected)
        assert predicted.mpp == truth.mpp == pytest.approx(mpp or theirs.mpp)


def test_a_resolution_that_one_side_knows_is_the_others_by_their_sizes():
    small, large = drawn(), enlarged(drawn(), 2)
    assert on_one_grid(LabelImage(small, mpp=0.5), LabelImage(large))[1].mpp == 0.25
    assert on_one_grid(LabelImage(small), LabelImage(large, mpp=0.25))[0].mpp == 0.25
    assert on_one_grid(LabelImage(small), LabelImage(large))[1].mpp is None
    stated = on_one_grid(LabelImage(small), LabelImage(large), 0.25)
    assert stated[0].mpp == 0.25 and stated[0].labels.shape == large.shape
    coarse = on_one_grid(LabelImage(small, mpp=0.5), LabelImage(large), 1.0)
    assert coarse[1].mpp == 1.0 and coarse[1].labels.shape == (6, 10)
    # 0.499 is 0.5.
    assert on_one_grid(LabelImage(small, mpp=0.5), LabelImage(small, mpp=0.499))[0].labels.shape == (12, 20)


def test_what_is_not_seen_is_empty_in_both():
    labels, seen = np.ones((4, 6), np.int32), np.zeros((4, 6), bool)
    seen[:, :3] = True
    predicted, truth = on_one_grid(LabelImage(labels, 0.5, seen), LabelImage(enlarged(labels, 2)))
    assert np.array_equal(truth.labels, enlarged(seen, 2)) and np.array_equal(truth.labels, predicted.labels)
    assert np.array_equal(known(truth.seen), enlarged(seen, 2))


@pytest.mark.parametrize(
    ("ours", "theirs", "mpp", "reason"),
    [
        (LabelImage(drawn(12, 20)), LabelImage(drawn(20, 12)), None, "not the same field"),
        (
            LabelImage(drawn(198, 198)),
            LabelImage(drawn(200, 200)),
            None,
            "198×198 px, the truth is 200×200 px",
        ),
        (LabelImage(drawn(), 0.5), LabelImage(drawn(), 0.25), None, r"0.5 µm/px, the truth .* 0.25 µm/px"),
        (LabelImage(drawn(), 0.5), LabelImage(drawn(24, 36)), None, "not the same field"),
        (LabelImage(drawn(), 0.5), LabelImage(drawn()), 0.25, "not enlarged to 0.25"),
        (LabelImage(np.zeros((0, 0), np.int32)), LabelImage(drawn()), None, "not the same field"),
    ],
)
def test_what_is_no_resolution_is_refused(ours, theirs, mpp, reason):
    with pytest.raises(ConfigError, match=reason):
        on_one_grid(ours, theirs, mpp)
