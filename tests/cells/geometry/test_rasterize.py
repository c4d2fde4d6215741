"""Outlines: labels become outlines and the same labels again; neighbours divide the pixels between them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dirl.cells.source import PixelGrid

shapely = pytest.importorskip("shapely")
from dirl.cells.geometry.rasterize import mask_polygon, rasterizer  # noqa: E402

SIDE = 12


@settings(max_examples=30, deadline=None)
@given(
    hnp.arrays(np.int32, (SIDE, SIDE), elements=st.integers(0, 4)),
    st.sampled_from([1.0, 2.0, 0.5 / 0.499, 1 / 3]),
)
def test_labels_come_back_from_their_outlines(labels, step):
    ids = np.unique(labels[labels > 0])
    shapes = np.array([mask_polygon(labels == i, 0, 0) for i in ids], object)
    assert all(shapely.is_valid(shapes))
    assert [shapely.area(s) for s in shapes] == [(labels == i).sum() for i in ids]
    scaled = shapely.transform(shapes, lambda at: at * step)
    made = rasterizer(ids, scaled)
    assert np.array_equal(made.cut(PixelGrid(0, 0, SIDE, step)), labels)
    part = made.cut(PixelGrid(5, 3, 6, step))
    assert np.array_equal(part, labels[5:11, 3:9])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 20), st.floats(0, 20)), min_size=3, max_size=3, unique=True))
def test_labels_are_where_shapely_finds_the_middles(corners):
    triangle = shapely.polygons(corners)
    if triangle.area < 1e-3:
        return
    labels = rasterizer(np.array([7], np.int32), np.array([triangle])).cut(PixelGrid(0, 0, 20))
    y, x = np.mgrid[:20, :20] + 0.5
    clear = shapely.distance(shapely.boundary(triangle), shapely.points(x, y)) > 1e-9
    assert np.array_equal((labels == 7)[clear], shapely.contains_xy(triangle, x, y)[clear])


def test_neighbours_divide_the_pixels_whose_middles_lie_on_their_border():
    left, right = shapely.box(0, 0, 2.5, 4), shapely.box(2.5, 0, 5, 4)
    upper, lower = shapely.polygons([(0, 4), (5, 4), (0, 9)]), shapely.polygons([(5, 4), (5, 9), (0, 9)])
    labels = rasterizer(np.arange(1, 5, dtype=np.int32), np.array([left, right, upper, lower])).cut(
        PixelGrid(0, 0, 10)
    )
    assert (labels[:9, :5] > 0).all()
    assert not labels[9:].any() and not labels[:, 5:].any()
    assert labels[0].tolist()[:5] == [1, 1, 2, 2, 2]


def test_the_first_of_two_that_overlap_has_the_pixels():
    shapes = np.array([shapely.box(0, 0, 3, 3), shapely.box(2, 0, 5, 3)])
    labels = rasterizer(np.array([5, 4], np.int32), shapes).cut(PixelGrid(0, 0, 6))
    assert labels[0].tolist() == [5, 5, 5, 4, 4, 0]
