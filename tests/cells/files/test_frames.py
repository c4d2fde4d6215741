"""QuPath crops a slide: its coordinates are brought back, and ours go out as it wants them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.scn_cases import write_scn

pytest.importorskip("shapely")

from dirl import synthetic
from dirl.cells.export import cells_export
from dirl.cells.files.frames import bounds_of, choose_frame
from dirl.cells.registry import load_segmenter
from dirl.cells.report.run import cells_report
from dirl.cells.run import cells
from dirl.cells.source import Frame
from dirl.config import CellsConfig, TileConfig
from dirl.core.card import note_change
from dirl.core.errors import ConfigError
from dirl.core.files import read_json, write_json
from dirl.slides.base import SlideInfo
from dirl.slides.openslide import scanned_box
from dirl.slides.qupath_frame import mark, marked_offset
from dirl.store.build import tile
from dirl.store.dataset import TileStore

SIZE, CORNER, SCAN = (960, 900), (300, 240), (384, 320)
SIDE = 96


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A store of a slide with bounds, and the slide's true labels at level 0."""
    folder = tmp_path_factory.mktemp("frames")
    drawn = synthetic.write(folder / "drawn.tif", seed=5, size_px=SCAN)
    rgb = tifffile.imread(folder / "drawn.tif")
    (folder / "slides").mkdir()
    path = write_scn(folder / "slides" / "slide.scn", rgb, SIZE, CORNER)
    tile([path], folder / "store", TileConfig(size_px=SIDE, min_tissue=0.05), quiet=True)
    labels = np.zeros(SIZE[::-1], np.int32)
    labels[CORNER[1] : CORNER[1] + SCAN[1], CORNER[0] : CORNER[0] + SCAN[0]] = drawn.labels
    return folder / "store", labels


def boxes(labels, corner):
    """Every nucleus as its box, at level 0 less a corner."""
    features = []
    for box in ndimage.find_objects(labels):
        if box is not None:
            (top, bottom), (left, right) = ((side.start, side.stop) for side in box)
            ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
            at = [[x - corner[0], y - corner[1]] for x, y in ring]
            geometry = {"type": "Polygon", "coordinates": [at]}
            features.append({"type": "Feature", "geometry": geometry, "properties": {}})
    return features


def write(file, features, qupath):
    for feature in features:
        feature["properties"] = {"objectType": "detection"} if qupath else {}
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return file


def taken(store, file, name, frame=None):
    spec = f"geojson:{file}" + (f",frame={frame}" if frame else "")
    return cells(store, CellsConfig(segmenter=spec, name=name), quiet=True)


def choose(asked, at, **told):
    """The frame of nine centres at the same x and y, on a slide of which QuPath shows a part."""
    centres, bounds = np.full((9, 2), at), (100, 200, 400, 300)
    return choose_frame(asked, centres=centres, size_px=(1000, 1000), bounds=bounds, **told)


def same(one, two):
    return all(np.array_equal(one.labels(i), two.labels(i)) for i in range(len(one)))


def test_files_of_either_frame_give_the_same_cells_and_what_was_taken_is_kept(scanned, tmp_path):
    store, labels = scanned
    assert TileStore.open(store).slides["slide"].bounds == (*CORNER, *SCAN)
    plain = taken(store, write(tmp_path / "plain.geojson", boxes(labels, (0, 0)), False), "plain")
    theirs = taken(store, write(tmp_path / "theirs.geojson", boxes(labels, CORNER), True), "theirs")
    assert same(plain, theirs) and sum((plain.labels(i) > 0).sum() for i in range(len(plain))) > 1000
    nuclei = theirs.nuclei("slide").to_pydict()
    assert min(nuclei["x"]) > CORNER[0] and min(nuclei["y"]) > CORNER[1]
    assert theirs.card.counts["frames"] == {
        "slide": "frame qupath (offset 300, 240): the file has QuPath's marks"
    }
    assert plain.card.counts["frames"]["slide"].startswith("frame level0 (offset 0, 0): ")
    assert read_json(theirs.path / "summary.json")["slides"]["slide"]["frame"]["doubt"] is None


def test_the_wrong_frame_is_warned_of(scanned, tmp_path):
    store, labels = scanned
    marked = write(tmp_path / "marked.geojson", boxes(labels, (0, 0)), True)
    with pytest.warns(
        UserWarning, match="lie outside .*: frame level0 .* was chosen, but the file has QuPath's marks"
    ):
        auto = taken(store, marked, "auto")
    assert same(auto, taken(store, marked, "stated", "level0"))
    with pytest.warns(UserWarning, match=r"on tissue, and \d+% with frame=level0"):
        taken(store, marked, "wrong", "qupath")
    cells_report(store, tmp_path / "report", cells=["wrong"], tiles=1, quiet=True)
    assert "with frame=level0." in (tmp_path / "report" / "report.html").read_text()
    plain = write(tmp_path / "plain.geojson", boxes(labels, CORNER), False)
    with pytest.warns(UserWarning, match=r"on tissue, and \d+% with frame=qupath"):
        taken(store, plain, "shifted")


def test_what_is_exported_lies_in_qupaths_frame_and_comes_back(scanned, tmp_path):
    store, labels = scanned
    found = taken(store, write(tmp_path / "plain.geojson", boxes(labels, (0, 0)), False), "whole")
    summary = cells_export(store, tmp_path / "out", cells="whole", quiet=True).summary
    assert summary.all.pixels_that_differ == 0
    content = read_json(tmp_path / "out" / "slide.geojson")
    assert content["dirl"] == {"frame": "qupath", "offset_px": list(CORNER)}
    points = np.array([p for one in content["features"] for p in _points(one["geometry"])])
    assert (points >= 0).all() and (points <= SCAN).all()
    first = content["features"][0]
    measured = first["properties"]["measurements"]
    nuclei = found.nuclei("slide").to_pydict()
    x = nuclei["x"][nuclei["id"].index(measured["dirl id"])]
    assert measured["Centroid X µm"] == pytest.approx((x - CORNER[0]) / 2, abs=1e-3)
    assert same(found, taken(store, tmp_path / "out", "again"))
    # QuPath drops members that it does not know.
    del content["dirl"]
    write_json(tmp_path / "edited.geojson", content)
    assert same(found, taken(store, tmp_path / "edited.geojson", "edited"))


def _points(geometry):
    nested = geometry["coordinates"] if geometry["type"] == "MultiPolygon" else [geometry["coordinates"]]
    return [point for rings in nested for ring in rings for point in ring]


def test_an_old_store_asks_the_slide(scanned, tmp_path):
    record = TileStore.open(scanned[0]).slides["slide"]
    assert bounds_of(replace(record, bounds=None)) == (*CORNER, *SCAN)
    assert bounds_of(replace(record, bounds=None, path=tmp_path / "gone.scn")) is None
    assert bounds_of(replace(record, bounds=None, kind="tiles")) == (0, 0, *SIZE)


def test_a_store_without_bounds_opens_and_says_what_it_cannot_know(scanned, tmp_path):
    store, labels = scanned
    old = shutil.copytree(store, tmp_path / "old")
    for file in (old / "slides.json", old / "tiles" / "slide.json"):
        values = read_json(file)
        for one in values if isinstance(values, list) else [values]:
            del one["bounds"]
            one["path"] = str(tmp_path / "gone.scn")
        write_json(file, values)
    note_change(old, "slides.json", "tiles/slide.json")
    file = write(tmp_path / "slide.geojson", boxes(labels, (0, 0)), True)
    with pytest.warns(UserWarning, match="does not record whether QuPath crops"):
        taken(old, file, "marked")
    with pytest.warns(UserWarning, match="does not record whether QuPath crops"):
        cells_export(old, tmp_path / "out", cells="marked", quiet=True)


def test_there_are_three_frames(tmp_path):
    (tmp_path / "a.geojson").write_text("[]")
    with pytest.raises(ConfigError, match="choose auto, qupath or level0"):
        load_segmenter(f"geojson:{tmp_path / 'a.geojson'},frame=center")


@pytest.mark.parametrize(
    ("asked", "marked", "in_qupath", "at", "expected"),
    [
        ("auto", None, True, 50, ("qupath", (100, 200))),
        ("auto", None, False, 50, ("level0", (0, 0))),
        ("auto", (7.0, 8.0), False, 50, ("qupath", (7, 8))),
        ("auto", None, True, 450, ("level0", (0, 0))),
        ("auto", None, True, 2000, ("qupath", (100, 200))),
        ("qupath", (7.0, 8.0), False, 450, ("qupath", (100, 200))),
        ("level0", (7.0, 8.0), True, 50, ("level0", (0, 0))),
    ],
)
def test_how_a_frame_is_chosen(asked, marked, in_qupath, at, expected):
    frame = choose(asked, at, marked=marked, in_qupath=in_qupath)
    assert (frame.name, frame.offset_px) == expected
    assert (frame.doubt is not None) == (asked == "auto" and (marked is not None or at == 450))
    assert str(Frame("qupath", (3.0, 4.5), "")) == "frame qupath (offset 3, 4.5)"


@pytest.mark.parametrize(
    ("asked", "in_qupath", "at", "name", "why", "doubt"),
    [
        ("auto", True, 50, "qupath", "the coordinates of CellViT begin there, as QuPath's do", None),
        ("auto", False, 450, "level0", "the coordinates of CellViT begin there", None),
        (
            "auto",
            True,
            450,
            "level0",
            "100% of its centres lie outside",
            "of CellViT usually begin as QuPath",
        ),
        ("qupath", True, 450, "qupath", "stated", None),
    ],
)
def test_the_reason_of_a_tools_frame_is_that_of_the_frame_taken(asked, in_qupath, at, name, why, doubt):
    frame = choose(asked, at, in_qupath=in_qupath, tool="CellViT")
    assert frame.name == name and frame.why.startswith(why)
    assert (frame.doubt is None) if doubt is None else (doubt in frame.doubt)


@given(st.tuples(*[st.integers(0, 2**30)] * 2))
def test_a_mark_is_read_as_it_was_written(corner):
    assert marked_offset(json.loads(json.dumps(mark(corner)))) == corner


@pytest.mark.parametrize("wrong", [None, 3, [], [1], [1, None], ["1", "2"], [1e300, 0], [float("nan"), 0]])
def test_a_mark_that_is_not_sound_counts_for_nothing(wrong):
    assert marked_offset({"dirl": {"offset_px": wrong}}) is None
    assert marked_offset({"dirl": wrong}) is None


def test_bounds_are_taken_as_qupath_takes_them():
    def bounds(*values):
        names = ("x", "y", "width", "height")
        return scanned_box(
            {f"openslide.bounds-{n}": v for n, v in zip(names, values, strict=False)}, (100, 80)
        )

    assert bounds("10", "20", "30", "40") == (10, 20, 30, 40)
    assert bounds("10", "20", "300", "400") == (10, 20, 90, 60)
    assert bounds("10", "20", "30") is None
    assert bounds("10.5", "20", "30", "40") is None
    assert bounds("100", "20", "30", "40") is None
    assert bounds("-1", "20", "30", "40") is None
    assert bounds("10", "20", "0", "40") is None
    info = SlideInfo("a", Path(__file__), None, (100, 80), 0.5, (1.0,))
    assert info.bounds == (0, 0, 100, 80)
    assert replace(info, scanned_box=(1, 2, 3, 4)).bounds == (1, 2, 3, 4)
