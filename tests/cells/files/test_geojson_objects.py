"""GeoJSON of every age and tool: what is a nucleus, what is a collection, and what is left out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

shapely = pytest.importorskip("shapely")

from dirl.cells.files.geojson import GeoJSON  # noqa: E402
from dirl.cells.files.geojson_features import parse_features, read_content  # noqa: E402
from dirl.cells.geometry.polygons import polygon  # noqa: E402
from dirl.cells.source import PixelGrid  # noqa: E402
from dirl.core.errors import ConfigError, DirlError  # noqa: E402

NAN = float("nan")


def ring(x, y, side=12):
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def feature(*rings, geometry="Polygon", **members):
    found = {"type": "Feature", "geometry": {"type": geometry, "coordinates": list(rings)}}
    return found | {"properties": {}} | members


def parsed(one):
    (found,) = parse_features([one], Path("a.geojson")).features
    return found


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
    assert parsed(feature(ring(0, 0), **members)).kind == kind


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
    assert found.cut(PixelGrid(0, 0, 100))[32, 32] == found.cut(PixelGrid(0, 0, 100))[25, 25] == 1
    eight = [[[32, 20], [33, 21], [33, 20], [32, 21], [32, 20]]]
    found = read(tmp_path, feature(*many, eight, geometry="MultiPolygon"))
    assert len(found.ids) == 9 and found.notes["outlines that cross themselves, left out"] == 1
    dust = [[ring(20 + 40 * i, 20, 2)] for i in range(9)]
    with pytest.warns(UserWarning, match="is unusual for nuclei"):
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
    odd: list[Any] = [
        None,
        3,
        "a",
        [],
        {"classification": 5},
        {"classification": {"names": 3}},
        {"measurements": 7},
    ]
    odd += [{"measurements": {"dirl id": NAN}}, {"measurements": [None, {"value": 1}]}, {"childObjects": 4}]
    objects = [{**one, "properties": more} for one, more in zip(grid(len(odd)), odd, strict=True)]
    found = read(tmp_path, [None, 5, *objects])
    assert len(found.ids) == len(odd) and found.notes == {"entries that are not objects": 2}
    assert found.classes == [None] * 4 + ["5"] + [None] * 5
    assert parsed({"properties": {"classification": "a\ud800"}}).class_name == "a?"


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
        parse_features(read_content(tmp_path / "a.geojson"), tmp_path / "a.geojson")


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
    with pytest.raises(
        DirlError, match="none of its 2 objects is a polygon with an area: all are points — bring the file"
    ):
        read(tmp_path, [feature([1, 1], [2, 2], geometry="MultiPoint") for _ in range(2)])


@pytest.mark.parametrize(
    ("properties", "name"),
    [
        # As GDAL, and so geopandas, writes what QuPath wrote.
        ({"classification": '{ "name": "Tumor", "color": [ 200, 0, 0 ] }'}, "Tumor"),
        ({"classification": '{"names":["A","B"],"color":[1,2,3]}'}, "A: B"),
        ({"classification": "{no JSON"}, "{no JSON"),
        ({"classification": ["Tumor"]}, "Tumor"),
        ({"classification": {}}, None),
        ({"classification": "Tumor", "type": 3}, "Tumor"),
        # As TIAToolbox and scripts write them.
        ({"prob": 0.9, "type": "Neoplastic"}, "Neoplastic"),
        ({"type": 3}, "type 3"),
        ({"class": 3.0}, "class 3"),
        ({"class_name": "stroma", "type": "nucleus"}, "stroma"),
        ({"type": "Polygon"}, None),
        ({"type": "detection"}, None),
        ({"class": True, "category": None, "cell_type": {"a": 1}}, None),
    ],
)
def test_classes_are_found_where_tools_put_them(properties, name):
    assert parsed({"properties": properties}).class_name == name


def test_an_id_of_ours_comes_back_through_geopandas(tmp_path):
    texts = [{"measurements": json.dumps({"dirl id": n}), "objectType": "detection"} for n in (7, 3)]
    objects = [feature(ring(30 * n, 30), properties=p) for n, p in enumerate(texts, 1)]
    assert read(tmp_path, objects).ids.tolist() == [7, 3]


def test_collections_and_geometries_may_lie_in_a_list(tmp_path):
    nine = grid(9)
    for content in (
        [{"type": "FeatureCollection", "features": nine[:4]}, {"features": nine[4:]}],
        [one["geometry"] for one in nine],
    ):
        file = tmp_path / "listed.geojson"
        file.write_text(json.dumps(content))
        assert len(GeoJSON(str(file)).read(file, (1000, 1000), 0.5).ids) == 9


def test_what_is_there_twice_is_taken_once(tmp_path):
    """As after importing a file into QuPath for a second time."""
    nine = grid(9, properties={"objectType": "detection", "classification": {"name": "a"}})
    region = [feature(ring(0, 0, 300))]
    found = read(tmp_path, [*nine, *region, *nine, *region])
    assert len(found.ids) == 9 and set(found.classes) == {"a"}
    assert found.notes["repeated outlines, left out"] == 9
    assert read(tmp_path, [*region, *grid(9), *region]).notes == {
        "repeated outlines, left out": 1,
        "outlines around many others, left out": 1,
    }


def test_an_outline_too_large_for_a_nucleus_is_left_out(tmp_path):
    """Beside nuclei, too, and around one or two of them."""
    note = "outlines larger than any nucleus (over 5,000 µm²), left out"
    regions = [feature(ring(0, 0, 150)), feature(ring(150, 150, 200))]
    for nuclei, count in ((1, 1), (2, 1), (3, 2), (20, 2)):
        found = read(tmp_path, [*regions[:count], *grid(nuclei)])
        assert len(found.ids) == nuclei and set(found.area_px) == {144}
        assert sum(found.notes.values()) == count
        assert nuclei > 2 or found.notes == {note: 1}
    with pytest.raises(ConfigError, match=r"22,500 µm² at 0.5 µm/px: regions, not nuclei"):
        read(tmp_path, [feature(ring(0, 0, 300))])


def test_detections_inside_of_cells_are_no_nuclei(tmp_path):
    spot = {"properties": {"objectType": "detection", "classification": {"name": "Subcellular spot: DAB"}}}
    cells = grid(9, **typed("cell", "0.4"))
    spots = [feature(ring(20 + 2 * k, 20, 2), **spot) for k in range(5)]
    found = read(tmp_path, [*cells, *spots])
    assert len(found.ids) == 9 and found.notes["objects that are not nuclei"] == 5


def test_every_part_of_a_class_is_a_nucleus_however_close(tmp_path):
    """A file of CellViT may have two nuclei of a class, side by side."""
    named = [{"classification": {"name": name}} for name in ("Dead", "Neoplastic")]
    pairs = [[[ring(20, y)], [ring(34, y)]] for y in (20, 200)]
    whole = [
        feature(*pair, geometry="MultiPolygon", properties=one)
        for pair, one in zip(pairs, named, strict=True)
    ]
    found = read(tmp_path, whole)
    assert found.classes == ["Dead", "Dead", "Neoplastic", "Neoplastic"]
    assert found.notes == {"collections, split into their parts": 2}
    assert len(read(tmp_path, [*whole, feature(ring(300, 300))]).ids) == 3


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        (
            [{"type": "MultiPoint", "coordinates": [[1, 2], [3, 4]]}],
            "its only object is not .*: all are points.*cells.json",
        ),
        ([{"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon", "coordinates": []}], "2 objects is"),
    ],
)
def test_points_have_no_outlines_and_what_has_is_named(tmp_path, objects, reason):
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path, [{"type": "Feature", "geometry": one, "properties": {}} for one in objects])


def test_a_file_of_tiles_and_cores_holds_no_nuclei(tmp_path):
    others = [*grid(4, **typed("tile", "0.4")), feature(ring(0, 0, 300), **typed("tmaCore", "0.4"))]
    with pytest.raises(ConfigError, match="no cells, detections or annotations, but 4 tile, 1 tmacore"):
        read(tmp_path, others)
