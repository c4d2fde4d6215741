"""Damage to labels: what each operator may change and what it may not, and that it is counted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.segmentation import expand_labels

from dirl.core.randomness import derangement
from dirl.prior.noise import dilate, drop, erode, shift, shuffled

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=20)
LABELS = hnp.arrays(np.int32, SHAPES, elements=st.sampled_from([0, 0, 0, 1, 2, 3, 9]))
KEYS = st.integers(0, 2**64 - 1)


@given(LABELS, st.floats(0, 1), KEYS)
def test_dropping_takes_whole_nuclei_and_touches_no_other(labels, share, key):
    left = drop(labels, share, key)
    gone = np.setdiff1d(labels, left)
    assert np.array_equal(left, np.where(np.isin(labels, gone), 0, labels))
    assert np.array_equal(left, drop(labels, share, key))
    assert np.array_equal(drop(labels, 0, key), labels) and not drop(labels, 1, key).any()
    # What is dropped at one share is dropped at every larger one.
    assert not (drop(labels, min(1, share + 0.1), key)[left == 0]).any()


def test_the_share_is_dropped_on_average():
    labels = np.arange(10_001, dtype=np.int32)[None]
    for share in (0.1, 0.5, 0.9):
        assert np.mean(drop(labels, share, 7)[0, 1:] == 0) == pytest.approx(share, abs=0.02)


@given(LABELS, st.floats(0, 6))
def test_dilated_nuclei_stay_apart_and_take_the_nearest_ground(labels, px):
    grown = dilate(labels, px)
    assert np.array_equal(grown[labels > 0], labels[labels > 0])
    assert set(np.unique(grown)) - {0} == set(np.unique(labels)) - {0}
    if labels.any():
        assert np.array_equal(grown > 0, expand_labels(labels, px) > 0)
        nearest = ndimage.distance_transform_edt(labels == 0)
        for label in np.unique(grown[grown > 0]):
            mine = grown == label
            # No other nucleus is nearer to what one has taken.
            assert np.array_equal(ndimage.distance_transform_edt(labels != label)[mine], nearest[mine])


@given(LABELS, st.floats(0, 4))
def test_eroded_nuclei_lose_what_is_near_to_another_label(labels, px):
    left = erode(labels, px)
    for label in np.unique(labels[labels > 0]):
        mine = labels == label
        deep = ndimage.distance_transform_edt(mine) > px if not mine.all() else mine
        assert np.array_equal(left == label, mine & deep)


@given(LABELS, st.floats(0, 30), KEYS)
def test_a_shift_moves_all_alike_and_invents_nothing(labels, px, key):
    moved = shift(labels, px, key)
    steps = [
        (r, c)
        for r in range(-31, 32)
        for c in range(-31, 32)
        if abs(np.hypot(r, c) - px) <= 0.75 and np.array_equal(moved, rolled(labels, r, c))
    ]
    assert steps
    assert np.array_equal(shift(labels, px, key), moved)


def rolled(labels, rows, columns):
    """Move by an independent way: pad, roll, cut."""
    return np.roll(np.pad(labels, 31), (rows, columns), (0, 1))[31:-31, 31:-31]


def test_shifts_go_everywhere():
    labels = np.zeros((41, 41), np.int32)
    labels[20, 20] = 1
    ends = np.array([np.argwhere(shift(labels, 10, key))[0] for key in range(200)]) - 20
    assert np.abs(ends.mean(0)).max() < 2
    assert np.abs(np.hypot(*ends.T) - 10).max() <= 0.75


NAMES = [f"tile {i}" for i in range(300)]
GROUPS = ["one"] * 200 + ["two"] * 99 + ["three"]


@given(st.floats(0, 1), st.integers(0, 99))
def test_shuffling_is_a_derangement_of_the_chosen_share_of_each_group(share, seed):
    taken = shuffled(seed, NAMES, GROUPS, share)
    assert sorted(taken) == list(range(300))
    assert all(GROUPS[i] == GROUPS[j] for i, j in enumerate(taken))
    for first, last in ((0, 200), (200, 299)):
        changed = int((taken[first:last] != np.arange(first, last)).sum())
        wanted = round(share * (last - first))
        assert changed == (wanted if wanted != 1 else 0)


def test_shuffling_all_is_the_control_and_none_is_nothing():
    assert np.array_equal(shuffled(3, NAMES, GROUPS, 1.0), derangement(3, NAMES, GROUPS))
    assert np.array_equal(shuffled(3, NAMES, GROUPS, 0.0), np.arange(300))
