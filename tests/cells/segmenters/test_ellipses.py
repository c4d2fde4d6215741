"""Ellipses of the same second moments: known ones come back."""

import numpy as np
import pytest

from dirl.cells.segmenters.shapes import ellipses


@pytest.mark.parametrize("turn", [0.0, 0.4, 1.2])
def test_the_ellipse_of_an_ellipse_is_itself(turn):
    y, x = (axis.ravel().astype(float) for axis in np.mgrid[:80, :100])
    along = (x - 45) * np.cos(turn) + (y - 38) * np.sin(turn)
    across = (y - 38) * np.cos(turn) - (x - 45) * np.sin(turn)
    place = np.hypot(along / 25, across / 12)
    inside = np.where(place < 1, 2, 0).astype(np.int32)
    found = ellipses(inside, x, y, 2)
    assert (found.x[2], found.y[2]) == pytest.approx((45, 38), abs=0.05)
    assert found.area_px[2] == pytest.approx(np.pi * 25 * 12, rel=0.02)
    everywhere = np.full(len(x), 2, np.int32)
    assert np.allclose(found.place(everywhere, x, y), place, atol=0.05)


def test_a_line_one_pixel_wide_has_one_too():
    x = np.arange(9.0)
    found = ellipses(np.ones(9, np.int32), x, np.zeros(9), 1)
    assert np.isfinite(found.area_px[1])
