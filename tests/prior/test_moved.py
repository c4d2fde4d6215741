"""Moved nuclei: the same number, areas and shapes in other places."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dirl.prior.noise import move


def ellipses(seed, count, side=96):
    """Nuclei of 1 to 5 px radius that do not touch, 1..m without gaps."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for _ in range(count):
        (cy, cx), (ry, rx) = random.uniform(0, side, 2), random.uniform(1, 5, 2)
        inside = ((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1
        if inside.any() and not labels[inside].any():
            labels[inside] = labels.max() + 1
    return labels


def turns(shape):
    """All eight turns and mirror images of a mask, as bytes."""
    turned = [np.rot90(s, k) for s in (shape, shape.T) for k in range(4)]
    return {(t.shape, t.tobytes()) for t in turned}


def cut(labels, number):
    rows, columns = np.nonzero(labels == number)
    return labels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] == number


@given(st.integers(0, 10_000), st.integers(0, 40), st.integers(0, 2**64 - 1))
def test_numbers_areas_and_shapes_stay(seed, count, key):
    labels = ellipses(seed, count)
    moved = move(labels, np.ones(labels.shape, bool), key)
    assert np.array_equal(np.bincount(moved.ravel()), np.bincount(labels.ravel()))
    for number in range(1, labels.max() + 1):
        shape = cut(moved, number)
        assert (shape.shape, np.ascontiguousarray(shape).tobytes()) in turns(cut(labels, number))
    assert np.array_equal(move(labels, np.ones(labels.shape, bool), key), moved)


def test_places_are_drawn_from_the_tissue_and_are_others():
    labels = ellipses(5, 25)
    tissue = np.zeros(labels.shape, bool)
    tissue[:, :48] = True
    labels[:, 40:] = 0
    labels = np.unique(labels, return_inverse=True)[1].astype(np.int32).reshape(labels.shape)
    moved = move(labels, tissue, 1)
    assert moved.any() and not moved[:, 48 + 6 :].any()
    same = [(moved[labels == number] == number).mean() for number in range(1, labels.max() + 1)]
    assert np.mean(same) < 0.2
    assert not np.array_equal(move(labels, tissue, 2), moved)


def test_where_there_is_no_room_nuclei_lose_area_but_never_gain():
    labels = (np.arange(32 * 32).reshape(32, 32) // 40 + 1).astype(np.int32)
    moved = move(labels, np.ones((32, 32), bool), 0)
    before, after = (np.bincount(x.ravel(), minlength=labels.max() + 1)[1:] for x in (labels, moved))
    assert (after <= before).all() and 0 < after.sum() < before.sum()


def test_no_nuclei_stay_none():
    empty = np.zeros((8, 9), np.int32)
    assert not move(empty, np.ones((8, 9), bool), 0).any()
    assert not move(empty, np.zeros((8, 9), bool), 0).any()
