"""GeoJSON of every age and tool: what is a nucleus, what is a collection, and what is left out."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

shapely = pytest.importorskip("shapely")

from dirl.cells.geojson import GeoJSON  # noqa: E402
from dirl.cells.objects import class_of, kind_of, objects_of, read_content  # noqa: E402
from dirl.cells.own_files import Grid  # noqa: E402
from dirl.cells.shapes import polygon  # noqa: E402
from dirl.errors import ConfigError, DirlError  # noqa: E402

NAN = float("nan")


def ring(x, y, side=12):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(*rings, geometry="Polygon", **members):
    found = {"type": "Feature", "geometry": {"type": geometry, "coordinates": list(rings)}}
    return found | {"properties": {}} | members


def grid(count, step=20, **members):
    return [feature(ring(20 + step * (i % 8), 20 + step * (i // 8)), **members) for i in range(count)]


def read(tmp_path, content, mpp=0.5):
    file = tmp_path / "slide.geojson"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return GeoJSON(str(file)).read(file, (400, 400), mpp)


def typed(kind, age):
    """Members of an object as a version of QuPath writes them."""
    if age == "0.2":
        name = {"tma_core": "TMACoreObject"}.get(kind, f"Path{kind.capitalize()}Object")
        return {"id": name}
    return {"properties": {"object_type" if age == "0.3" else "objectType": kind}}


@pytest.mark.parametrize("age", ["0.2", "0.3", "0.4"])
@pytest.mark.parametrize("nucleus", ["cell", "detection"])
def test_annotations_are_no_nuclei_beside_cells_and_detections(tmp_path, age, nucleus):
    others = [
        feature(ring(0, 0, 300), **typed(kind, age)) for kind in ("annotation", "tile", "tma_core", "root")
    ]
    found = read(tmp_path, [*others, *grid(9, **typed(nucleus, age))])
    assert found.ids.tolist() == list(range(1, 10)) and set(found.area_px) == {144}
    assert found.notes["objects that are not nuclei"] == 4
    alone = read(tmp_path, grid(9, **typed("annotation", age)))
    assert len(alone.ids) == 9 and not alone.notes


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        ({"id": "PathCellObject"}, "cell"),
        ({"id": "PathTileDetection"}, "tiledetection"),
        ({"id": "9c1c"}, "annotation"),
        ({"id": 7, "properties": None}, "annotation"),
        ({"properties": {"objectType": "tmaCore"}}, "tmacore"),
        ({"properties": {"object_type": "tma_core"}}, "tmacore"),
        ({"properties": {"type": "detection"}}, "detection"),
        ({"properties": {"type": "nucleus"}}, "annotation"),
        ({"properties": {"objectType": ["cell"]}}, "annotation"),
        ({"properties": ["objectType"]}, "annotation"),
    ],
)
def test_what_an_object_is(members, kind):
    assert kind_of(feature(ring(0, 0), **members)) == kind


def test_an_outline_around_many_others_is_no_nucleus(tmp_path):
    """Without types, as other tools write them, and whichever type a region has."""
    for members in ({}, {"properties": {"objectType": "annotation"}}, typed("detection", "0.4")):
        region = feature(ring(10, 10, 200), **members)
        hole = feature(ring(0, 0, 300), ring(5, 5, 290), **members)
        found = read(tmp_path, [region, hole, *grid(20, **members)])
        assert found.notes == {"outlines around many others, left out": 1}
        assert len(found.ids) == 21 and sorted(set(found.area_px))[0] == 144


def test_an_outline_around_a_few_or_as_small_as_they_is_kept(tmp_path):
    few = [feature(ring(15, 15, 60)), *grid(2)]
    assert len(read(tmp_path, few).ids) == 3
    again = [feature(ring(50 + i, 50)) for i in range(9)]  # one nucleus, outlined by nine people
    assert len(read(tmp_path, again).ids) == 9


def test_a_collection_is_split_each_part_with_the_class(tmp_path):
    named = [{"classification": {"name": name, "color": [1, 2, 3]}} for name in ("tumour", "stroma")]
    many = [[ring(20 + 20 * i, 20 + 60 * j)] for i in range(9) for j in range(2)]
    found = read(
        tmp_path,
        [
            feature(*many[::2], [], geometry="MultiPolygon", properties=named[0]),
            feature(*many[1::2], geometry="MultiPolygon", properties=named[1]),
        ],
    )
    assert found.classes == ["tumour"] * 9 + ["stroma"] * 9
    assert set(found.area_px) == {144}
    assert found.notes == {"collections, split into their parts": 2}


def test_cells_of_a_collection_that_touch_or_overlap_stay_apart(tmp_path):
    touching = [[ring(20 + 12 * i, 20)] for i in range(12)] + [[ring(26, 20)]]
    found = read(tmp_path, feature(*touching, geometry="MultiPolygon"))
    assert found.area_px.tolist() == [144] * 13


@pytest.mark.parametrize(
    ("gap_px", "nuclei"), [(0, 1), (1, 1), (4, 1), (5, 2), (30, 2)]
)  # at 0.5 µm/px: up to 2 µm
def test_a_nucleus_in_two_close_parts_stays_one(tmp_path, gap_px, nuclei):
    parts = [ring(20, 20)], [ring(32 + gap_px, 20)]
    found = read(tmp_path, feature(*parts, geometry="MultiPolygon"))
    assert len(found.ids) == nuclei and found.area_px.sum() == 288


def test_crumbs_of_a_collection_stay_with_the_nucleus_beside_them(tmp_path):
    many = [[ring(20 + 40 * i, 20)] for i in range(9)]
    crumbs = [[ring(32, 32, 1)], [ring(72 + 4, 20, 2)], [ring(72 + 20, 20, 3)]]  # the last lies too far away
    found = read(tmp_path, feature(*many[:5], *crumbs, *many[5:], geometry="MultiPolygon"))
    assert found.area_px.tolist() == [145, 148, 144, 144, 144, 9, *[144] * 4]
    assert found.cut(Grid(0, 0, 100))[32, 32] == found.cut(Grid(0, 0, 100))[25, 25] == 1
    eight = [[[32, 20], [33, 21], [33, 20], [32, 21], [32, 20]]]
    found = read(tmp_path, feature(*many, eight, geometry="MultiPolygon"))
    assert len(found.ids) == 9 and found.notes["outlines that cross themselves, left out"] == 1
    dust = [[ring(20 + 40 * i, 20, 2)] for i in range(9)]
    with pytest.warns(UserWarning, match="which no nucleus has"):
        assert len(read(tmp_path, feature(*dust, geometry="MultiPolygon")).ids) == 9


def test_what_dirl_numbered_is_one_nucleus_whatever_its_parts(tmp_path):
    own = {"objectType": "detection", "measurements": {"dirl id": 5}}
    found = read(tmp_path, feature([ring(20, 20)], [ring(200, 20)], geometry="MultiPolygon", properties=own))
    assert found.ids.tolist() == [5] and not found.notes


@pytest.mark.parametrize(
    ("geometry", "note"),
    [
        ({"type": "Polygon", "coordinates": [[[0, 0], [NAN, 0], [9, 9], [0, 0]]]}, "broken coordinates"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, float("inf")], [9, 9], [0, 0]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, None], [9, 9], [0, 0]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 10**400], [9, 9], [0, 0]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1e300, 0], [9, 9], [0, 0]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[0, 0], [9, 0], [9, 9], [0, 0]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[[0], [9], [9], [0]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 9]]]}, "broken"),
        ({"type": "Polygon", "coordinates": [[]]}, "broken"),
        ({"type": "Polygon", "coordinates": {"x": 1}}, "broken"),
        ({"type": "Polygon"}, "broken"),
        ({"type": "MultiPolygon", "coordinates": [ring(0, 0)]}, "broken"),
        ({"type": "Polygon", "coordinates": []}, "without an area"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [9, 9], [4, 4], [0, 0]]]}, "without an area"),
        ({"type": "MultiPoint", "coordinates": [[1, 1], [2, 2]]}, "without an area"),
        ({"type": "GeometryCollection", "geometries": []}, "without an area"),
        ({"type": "Unheard", "coordinates": [1]}, "without an area"),
        ("Polygon", "without an area"),
        (None, "without an area"),
        (
            {"type": "Polygon", "coordinates": [[[0, 0], [20, 20], [20, 0], [0, 20], [0, 0]]]},
            "cross themselves",
        ),
    ],
)
def test_an_object_without_a_sound_outline_is_left_out_and_counted(tmp_path, geometry, note):
    found = read(tmp_path, [*grid(8), {"type": "Feature", "geometry": geometry, "properties": None}])
    assert len(found.ids) == 8
    assert [count for name, count in found.notes.items() if note in name] == [1] and len(found.notes) == 1


def test_null_and_foreign_properties_are_fine(tmp_path):
    odd = [None, 3, "a", [], {"classification": 5}, {"classification": {"names": 3}}, {"measurements": 7}]
    odd += [{"measurements": {"dirl id": NAN}}, {"measurements": [None, {"value": 1}]}, {"childObjects": 4}]
    objects = [{**one, "properties": more} for one, more in zip(grid(len(odd)), odd, strict=True)]
    found = read(tmp_path, [None, 5, *objects])
    assert len(found.ids) == len(odd) and found.notes == {"entries that are no objects": 2}
    assert found.classes == [None] * 4 + ["5"] + [None] * 5
    assert class_of({"classification": "a\ud800"}) == "a?"


@pytest.mark.parametrize(
    "shaped",
    [
        lambda objects: objects,
        lambda objects: {"type": "FeatureCollection", "features": objects, "crs": None},
        lambda objects: {"features": objects},
        lambda objects: {**objects[0], "properties": {"objectType": "root", "childObjects": objects}},
        lambda objects: {"type": "GeometryCollection", "geometries": [one["geometry"] for one in objects]},
        lambda objects: {"type": "MultiPolygon", "coordinates": [[ring(20 * i, 20)] for i in range(1, 10)]},
        lambda objects: "\ufeff" + json.dumps(objects),
    ],
)
def test_objects_come_in_several_forms(tmp_path, shaped):
    detections = grid(9, properties={"objectType": "detection"})
    assert len(read(tmp_path, shaped(detections)).ids) == 9


@pytest.mark.parametrize(
    "text", ["[" * 100_000, b"\xff\xfe\x00", "{", "9" * 5000, "null", '{"type": "Feature"}x']
)
def test_what_is_no_geojson_is_refused(tmp_path, text):
    (tmp_path / "a.geojson").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError, match="GeoJSON"):
        objects_of(read_content(tmp_path / "a.geojson"), tmp_path / "a.geojson")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)
points = st.lists(st.floats(-50, 450) | st.floats() | json_values, min_size=1, max_size=3)
outlines = st.lists(st.lists(points, max_size=7), max_size=2) | json_values


@settings(max_examples=40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "geometry": json_values
                | st.fixed_dictionaries(
                    {"type": st.sampled_from(["Polygon", "MultiPolygon"]), "coordinates": outlines}
                )
                | st.fixed_dictionaries(
                    {"type": st.just("MultiPolygon"), "coordinates": st.lists(outlines, max_size=3)}
                ),
                "properties": json_values,
            }
        ),
        max_size=3,
    )
)
def test_whatever_an_object_holds_the_others_are_read(tmp_path_factory, odd):
    folder = tmp_path_factory.mktemp("any")
    numbered = [
        feature(ring(20 + 20 * i, 20), properties={"measurements": {"dirl id": 100 + i}}) for i in range(6)
    ]
    found = read(folder, [*odd, *numbered])
    assert {100 + i for i in range(6)} <= set(found.ids.tolist())
    assert np.isfinite(found.area_px).all() and (found.area_px > 0).all()


@settings(max_examples=50)
@given(json_values | st.lists(st.lists(points, min_size=3, max_size=8), min_size=1, max_size=2))
def test_a_polygon_is_finite_or_none(rings):
    made = polygon(rings)
    assert made is None or np.isfinite(shapely.get_coordinates(made)).all()


def test_a_file_without_any_outline_says_what_to_bring(tmp_path):
    with pytest.raises(DirlError, match="none of its 2 objects is a polygon with an area — bring the file"):
        read(tmp_path, [feature([1, 1], [2, 2], geometry="MultiPoint") for _ in range(2)])
