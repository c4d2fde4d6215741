"""Solidity beside scikit-image's, and what a neighbourhood of ragged outlines costs."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from skimage.measure import label, regionprops

from dirl.cells.segmenters.hematoxylin import Hematoxylin
from dirl.cells.segmenters.shapes import neighbourhood_mean, solidity


def of(labels):
    at = np.flatnonzero(labels)
    y, x = (axis.astype(float) for axis in np.divmod(at, labels.shape[1]))
    return solidity(labels.ravel()[at], x, y, int(labels.max(initial=0)))


@given(st.integers(0, 10_000))
def test_agrees_with_scikit_image(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.random((8, 8)) < 0.5
    labels = label(np.kron(coarse, np.ones((7, 7), int)), connectivity=1)
    found = of(labels)
    for region in regionprops(labels):
        # Tangents from 32 directions draw the hull a little too large, skimage counts whole pixels.
        assert abs(found[region.label] - region.solidity) < 0.08


def test_a_disc_is_solid_and_a_cross_is_not():
    y, x = np.mgrid[:41, :41] - 20
    disc = (np.hypot(x, y) <= 15).astype(int)
    cross = ((abs(x) <= 2) | (abs(y) <= 2)).astype(int)
    assert of(disc)[1] > 0.95
    # Its hull is the square around it, less four corners.
    assert abs(of(cross)[1] - cross.sum() / (41**2 - 4 * 18**2 / 2)) < 0.03


def test_nothing_has_no_solidity():
    assert of(np.zeros((4, 4), int)).tolist() == [1.0]


@given(st.integers(0, 10_000), st.integers(1, 30))
def test_a_neighbourhood_is_the_mean_of_those_within(seed, count):
    rng = np.random.default_rng(seed)
    values, weights, centres = rng.random(count), rng.random(count) + 0.1, 50 * rng.random((count, 2))
    found = neighbourhood_mean(values, weights, centres, 10, 0.5, 2)
    for k in range(count):
        near = np.linalg.norm(centres - centres[k], axis=1) <= 10
        drawn = 2 * weights.mean()
        mean = ((weights * values)[near].sum() + drawn * 0.5) / (weights[near].sum() + drawn)
        assert abs(found[k] - mean) < 1e-12


def test_ragged_flakes_are_no_nuclei_though_as_dark():
    y, x = np.mgrid[:256, :256]
    ragged, round_ = np.zeros((256, 256), bool), np.zeros((256, 256), bool)
    for cy in range(24, 256, 40):
        for cx in range(24, 256, 40):
            dy, dx = y - cy, x - cx
            ragged |= (abs(dx * dy) < 14) & (np.hypot(dx, dy) < 14)
            round_ |= np.hypot(dx, dy) < 7
    found = {}
    for name, drawn in (("ragged", ragged), ("round", round_)):
        rgb = np.where(drawn[..., None], (95, 70, 140), (225, 150, 190)).astype(np.uint8)
        (mask,) = Hematoxylin().fit([rgb], 0.5)([rgb])
        found[name] = len(mask)
    assert found["round"] == 36
    assert found["ragged"] == 0
