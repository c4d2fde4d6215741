"""Outlines enclose exactly their tokens, and the highest tokens become annotations."""

import json
import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Polygon
from scipy import ndimage

from dirl.maps.grid import MapGrid
from dirl.maps.regions import to_geojson, top_regions, trace_polygon


def area(ring):
    x, y = ring.T
    return abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


@settings(deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_less_its_holes_is_the_mask(mask):
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        component = labels == number
        rings = trace_polygon(component)
        assert all((ring[0] == ring[-1]).all() and (ring % 1 == 0).all() for ring in rings)
        assert all(len({*map(tuple, ring)}) == len(ring) - 1 for ring in rings)  # none meets itself
        assert area(rings[0]) - sum(map(area, rings[1:])) == component.sum()
        centres = np.indices(mask.shape)[::-1].reshape(2, -1).T + 0.5
        crossed = np.sum([Polygon(ring).contains_points(centres) for ring in rings], axis=0)
        assert np.array_equal(crossed.reshape(mask.shape) % 2 == 1, component)


@given(mask=arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_an_outline_with_its_holes_is_a_valid_polygon(mask):
    shapely = pytest.importorskip("shapely")
    labels, count = ndimage.label(mask)
    for number in range(1, count + 1):
        rings = trace_polygon(labels == number)
        polygon = shapely.Polygon(rings[0], rings[1:])
        assert polygon.is_valid and polygon.area == (labels == number).sum()
        assert polygon.exterior.is_ccw and not any(hole.is_ccw for hole in polygon.interiors)


@given(
    values=arrays(
        np.float32, st.tuples(st.integers(6, 24), st.integers(6, 24)), elements=st.sampled_from([1, 2, 9])
    ),
    side=st.floats(3.7, 60),
)
def test_the_file_holds_valid_polygons_with_unique_ids(values, side):
    shapely = pytest.importorskip("shapely")
    grid = MapGrid(values.shape, side, 8.0, 224, 14, 7, (10, 20))
    _, regions = top_regions(values)
    features = json.loads(json.dumps(to_geojson(regions, grid, "attention", "slide")))["features"]
    ids = [str(uuid.UUID(feature["id"])) for feature in features]
    assert len(features) == len(regions) == len(set(ids))
    for feature, region in zip(features, regions, strict=True):
        rings = feature["geometry"]["coordinates"]
        assert all(ring[0] == ring[-1] and len(ring) >= 5 for ring in rings)
        polygon = shapely.geometry.shape(feature["geometry"])
        assert polygon.is_valid and polygon.area == pytest.approx(region.tokens * side**2, rel=0.02)
        assert polygon.exterior.is_ccw and not any(hole.is_ccw for hole in polygon.interiors)
    other = to_geojson(regions, grid, "attention", "another slide")["features"]
    assert not {feature["id"] for feature in other} & set(ids)


def test_a_ring_that_would_meet_itself_is_parted():
    mask = np.ones((4, 4), bool)
    mask[0, 2] = mask[1, 1] = False  # two gaps that meet at a corner, one of them open
    rings = trace_polygon(mask)
    assert [area(ring) for ring in rings] == [15, 1]


def test_top_regions_and_their_measurements():
    values = np.full((40, 50), np.nan, np.float32)
    values[5:35, 5:45] = 1
    values[10:13, 20:24] = 3
    values[30:32, 8:10] = 5
    values[20, 20:23] = 9  # three tokens: too few
    threshold, regions = top_regions(values)
    assert threshold == 1 and [region.tokens for region in regions] == [12, 4]
    assert (regions[0].mean, regions[1].top) == (3, 5)
    grid = MapGrid((40, 50), 16.0, 8.0, 224, 14, 7, (1000, 2000))
    collection = to_geojson(regions, grid, "attention", "slide")
    assert collection["dirl"] == {"frame": "qupath", "offset_px": [1000, 2000]}
    features = collection["features"]
    assert features == to_geojson(regions, grid, "attention", "slide")["features"]
    assert len({str(uuid.UUID(feature["id"])) for feature in features}) == 2
    corners = np.array(features[0]["geometry"]["coordinates"][0])
    assert corners.min(0).tolist() == [320, 160] and corners.max(0).tolist() == [384, 208]
    assert features[0]["properties"]["objectType"] == "annotation"
    measured = features[0]["properties"]["measurements"]
    assert measured == {"mean attention": 3, "max attention": 3, "area µm^2": pytest.approx(12 * 64)}


def test_a_flat_map_has_no_top():
    assert top_regions(np.ones((20, 20), np.float32)) == (None, [])
