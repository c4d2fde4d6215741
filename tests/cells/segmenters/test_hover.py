"""Nuclei parted by jumps: exact maps give exact nuclei, whatever else the window holds."""

import numpy as np
import pytest

from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters.hover import separate_by_jumps


def drawn(mpp):
    """Discs 7 µm across in touching pairs, and their maps: distance from the centre by half the width."""
    radius = 3.5 / mpp
    size = round(60 / mpp)
    y, x = np.mgrid[:size, :size]
    labels, maps = np.zeros((size, size), np.int32), np.zeros((2, size, size), np.float32)
    for k in range(8):
        row, column = (8 + 14 * (k // 2)) / mpp, 12 / mpp + 2 * radius * (k % 2) + k / mpp
        disc = np.hypot(y - row, x - column) <= radius
        labels[disc], maps[0][disc], maps[1][disc] = (
            k + 1,
            (y - row)[disc] / radius,
            (x - column)[disc] / radius,
        )
    return labels, maps


@pytest.mark.parametrize("mpp", [0.25, 0.5])
@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_exact_maps_and_weaker_ones_part_nuclei(mpp, strength):
    labels, maps = drawn(mpp)
    assert score_nuclei(separate_by_jumps(labels > 0, strength * maps, mpp), labels).pq > 0.95


def test_nuclei_do_not_depend_on_the_rest_of_the_window():
    labels, maps = drawn(0.5)
    other = maps.copy()
    other[:, -8:, -8:] = [[[30.0]], [[-30.0]]]
    inside = labels > 0
    assert np.array_equal(separate_by_jumps(inside, other, 0.5), separate_by_jumps(inside, maps, 0.5))


def test_nothing_is_parted_of_nothing():
    assert not separate_by_jumps(np.zeros((9, 12), bool), np.zeros((2, 9, 12), np.float32), 0.5).any()
