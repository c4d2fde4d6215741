"""Region sets: every pixel in one region, the ring where a distance transform has it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from dirl.prior.regions import cell_region_ids, class_ids, grid_ids, grid_shape, ring_ids, within

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=24)


@st.composite
def cells(draw):
    """Labels 0..5 and tissue of one shape."""
    shape = draw(SHAPES)
    labels = draw(hnp.arrays(np.int32, shape, elements=st.integers(0, 5)))
    return labels, draw(hnp.arrays(np.bool_, shape))


@given(hnp.arrays(np.bool_, SHAPES), st.floats(0, 30))
def test_within_is_the_euclidean_distance(mask, radius):
    far = np.full(mask.shape, np.inf)
    distance = ndimage.distance_transform_edt(~mask) if mask.any() else far
    assert np.array_equal(within(mask, radius), distance <= radius)


@given(cells(), st.floats(0.5, 6))
def test_the_ring_lies_in_the_tissue_around_nuclei(drawn, ring_px):
    labels, tissue = drawn
    ids = ring_ids(labels, tissue, ring_px)
    assert ids.dtype == np.uint8
    assert np.array_equal(ids == 1, labels > 0)
    assert np.array_equal(ids == 0, (labels == 0) & ~tissue)
    assert np.array_equal(ids == 2, within(labels > 0, ring_px) & tissue & (labels == 0))
    # Ring and rest are the rest of the set `cells`.
    assert np.array_equal(np.minimum(ids, 2), cell_region_ids(labels, tissue))


@given(cells(), hnp.arrays(np.uint8, 6, elements=st.integers(0, 3)))
def test_classes_divide_the_nuclei_and_leave_the_rest_alone(drawn, classes):
    labels, tissue = drawn
    classes[0] = 0
    ids = class_ids(labels, tissue, classes, 3)
    assert ids.dtype == np.uint8
    assert np.array_equal(ids == 4, cell_region_ids(labels, tissue) == 2)
    for label in range(1, 6):
        assert (ids[labels == label] == classes[label]).all()


@given(st.integers(1, 15), st.integers(1, 15))
def test_a_grid_covers_the_tile_in_equal_boxes(rows, columns):
    ids = grid_ids(5 * rows, 7 * columns, (columns,) * rows)
    assert (np.bincount(ids.ravel(), minlength=rows * columns + 1)[1:] == 35).all()
    assert np.array_equal(ids[::5, ::7].ravel(), np.arange(1, rows * columns + 1))


@given(st.lists(st.integers(1, 6), min_size=1, max_size=5))
def test_rows_of_a_grid_may_have_different_columns(columns):
    ids = grid_ids(2 * len(columns), 60, tuple(columns))
    expected = 0
    for row, count in enumerate(columns):
        for box in np.split(ids[2 * row : 2 * row + 2], count, axis=1):
            expected += 1
            assert (box == expected).all()
    assert ids.max() == sum(columns)


@pytest.mark.parametrize(("count", "shape"), [(1, (1,)), (2, (2,)), (3, (3,)), (4, (2, 2)), (6, (3, 3))])
def test_a_grid_has_as_many_boxes_as_it_should(count, shape):
    assert grid_shape(count) == shape
