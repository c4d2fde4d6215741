"""Outlines follow each nucleus's own contrast and shape."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dirl.cells.segmenters.morphology import depth, grown, largest_parts, opening, running, smaller
from dirl.cells.segmenters.outlines import Outlining, outline

MPP = 0.5


def disc(centre, radius, size=64):
    y, x = np.mgrid[:size, :size]
    return np.hypot(y - centre[0], x - centre[1]) <= radius


def drawn(labels, level, how=None):
    allowed = np.ones(labels.shape, bool)
    level = np.asarray(level, np.float32)
    return outline(labels.astype(np.int32), level, level, allowed, 40, how or Outlining(), MPP)[0]


def test_an_outline_too_wide_and_one_too_narrow_come_to_the_border():
    true = disc((32, 32), 8)
    for radius in (7, 9):
        found = drawn(disc((32, 32), radius), true * 1.0)
        assert (found > 0).sum() == opening(true, 3).sum()


def test_a_spur_is_cut_and_a_bay_filled():
    true = disc((32, 32), 9)
    mask = true.copy()
    mask[31:33, 20:46] = True
    mask[36:41, 36:39] = False
    found = drawn(mask, np.where(mask, 1.0, np.where(true, 0.5, 0.0))) > 0
    assert not found[32, 20]
    assert found[37, 37]


def test_contrast_is_that_of_each_to_its_own_ring():
    labels = np.where(disc((16, 16), 7), 1, 0) + np.where(disc((46, 46), 7), 3, 0)
    level = np.where(labels == 1, 0.9, 0.1).astype(np.float32)
    allowed = np.ones(labels.shape, bool)
    _, contrast = outline(labels.astype(np.int32), level, level, allowed, 40, Outlining(), MPP)
    assert np.allclose(contrast[1:], [0.8, 0.05, 0.05], atol=1e-6)


def test_what_may_not_belong_stays_out_but_for_holes():
    true = disc((32, 32), 9)
    labels, level = true.astype(np.int32), true.astype(np.float32)
    allowed = ~(disc((32, 32), 2) | disc((32, 41), 4))
    found = outline(labels, level, level, allowed, 40, Outlining(), MPP)[0] > 0
    assert found[32, 32]
    assert not found[32, 40]


def test_nothing_is_drawn_of_nothing():
    nothing = np.zeros((20, 30), np.int32)
    assert not drawn(nothing, nothing).any()


@given(st.integers(0, 2**32 - 1))
def test_morphology(seed):
    rng = np.random.default_rng(seed)
    labels = (rng.integers(1, 4, (13, 17)) * (rng.random((13, 17)) < 0.5)).astype(np.int32)
    mask = labels > 0
    wide = grown(labels, 2)
    assert np.array_equal(wide[mask], labels[mask])
    assert not (opening(mask, 3) & ~mask).any()
    assert not (smaller(mask, 4) & ~mask).any()
    assert ((depth(mask, 4) > 0) == mask).all()
    assert (running(np.maximum, mask, 3) >= mask).all()
    kept = largest_parts(labels)
    assert np.array_equal(np.unique(kept), np.unique(labels))
    assert np.array_equal(largest_parts(kept), kept)
