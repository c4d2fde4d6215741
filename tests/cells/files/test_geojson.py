"""QuPath: what it writes is read, what dirl writes comes back as the same labels."""

import json

import numpy as np
import pytest
from PIL import Image

shapely = pytest.importorskip("shapely")

from dirl import synthetic  # noqa: E402
from dirl.cells.export import Exported, cells_export  # noqa: E402
from dirl.cells.files.geojson import GeoJSON  # noqa: E402
from dirl.cells.run import cells  # noqa: E402
from dirl.cells.source import PixelGrid  # noqa: E402
from dirl.config import CellsConfig, TileConfig  # noqa: E402
from dirl.core.errors import ConfigError, StoreError  # noqa: E402
from dirl.core.files import read_json  # noqa: E402
from dirl.store.build import tile  # noqa: E402
from dirl.store.dataset import TileStore  # noqa: E402


def square(x, y, side=10.0, **properties):
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    kind = properties.pop("kind", "detection")
    return {"type": "Feature", "geometry": geometry, "properties": {"objectType": kind, **properties}}


def written(folder, *features, bare=False):
    file = folder / "slide.geojson"
    content = list(features) if bare else {"type": "FeatureCollection", "features": list(features)}
    file.write_text(json.dumps(content))
    return file


def read(file, mpp=0.5, size=(200, 200)):
    return GeoJSON(str(file)).read(file, size, mpp)


def test_objects_are_read_as_qupath_writes_them(tmp_path):
    cell = square(20, 20, 30, kind="cell", classification={"names": ["Tumor", "Positive"]})
    cell["nucleusGeometry"] = square(30, 30)["geometry"]
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}}
    point["properties"] = {"objectType": "detection"}
    around = square(0, 0, 150, kind="annotation", classification={"name": "Region"})
    named = square(0, 60, classification={"name": "Stroma", "color": [1, 2, 3]})
    for bare in (False, True):
        found = read(written(tmp_path, around, cell, named, point, square(300, 0), bare=bare))
        assert found.ids.tolist() == [1, 2]
        assert found.classes == ["Tumor: Positive", "Stroma"]
        assert found.area_px.tolist() == [100, 100]
        assert found.touches_border.tolist() == [False, True]
        assert (found.x[0], found.y[0]) == (35, 35)
        assert found.notes == {
            "objects that are not nuclei": 1,
            "objects without an area": 1,
            "outside the image": 1,
        }
        labels = found.cut(PixelGrid(0, 0, 100))
        assert (labels[30:40, 30:40] == 1).all() and (labels == 1).sum() == 100


def test_annotations_are_nuclei_where_there_is_nothing_else(tmp_path):
    assert len(read(written(tmp_path, square(5, 5, kind="annotation"))).ids) == 1


def test_no_objects_are_no_nuclei(tmp_path):
    found = read(written(tmp_path))
    assert len(found.ids) == 0 and not found.cut(PixelGrid(0, 0, 8)).any()


def ring_of(*points, **properties):
    feature = square(0, 0, **properties)
    feature["geometry"]["coordinates"] = [[*map(list, points), list(points[0])]]
    return feature


def test_outlines_that_cross_themselves_are_mended_where_it_is_clear_what_lies_inside(tmp_path):
    eight = ring_of((20, 20), (40, 40), (40, 20), (20, 40))
    spike = ring_of((60, 60), (70, 60), (70, 64), (75, 64), (70, 64), (70, 70), (60, 70))
    line = ring_of((60, 60), (70, 70), (60, 60))
    found = read(written(tmp_path, eight, spike, line))
    assert found.notes == {
        "objects without an area": 1,
        "outlines that cross themselves, left out": 1,
        "outlines that crossed themselves, repaired": 1,
    }
    assert found.area_px.tolist() == [100]


def test_coordinates_in_micrometres_are_told(tmp_path):
    objects = [square(x, y, 7) for x in range(10, 90, 20) for y in range(10, 90, 20)]
    with pytest.raises(ConfigError, match="coordinates look like µm"):
        read(written(tmp_path, *objects), mpp=0.25, size=(400, 400))
    with pytest.warns(UserWarning, match="is unusual for nuclei"):
        read(written(tmp_path, *[square(x, 10, 2) for x in range(10, 390, 20)]), 0.25, (400, 400))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "cannot be read as GeoJSON"),
        ("[1, 2]", "holds no GeoJSON features"),
        ('{"a": 1}', "holds no GeoJSON features"),
        (json.dumps([square(500, 500)]), "the only object lies outside the image"),
        (json.dumps([{"type": "Feature", "geometry": None}]), "its only object is not a polygon"),
        (json.dumps([{"type": "Feature", "geometry": {"type": "Polygon"}}]), "its only object is not"),
    ],
)
def test_bad_files_are_told(tmp_path, text, reason):
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        read(tmp_path / "a.geojson")


def test_ids_come_back_and_new_objects_are_numbered_on(tmp_path):
    marked = square(20, 20, measurements={"dirl id": 7})
    twice = square(40, 40, measurements=[{"name": "dirl id", "value": 7.0}])
    assert read(written(tmp_path, square(0, 0), marked, twice)).ids.tolist() == [8, 7, 9]


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    folder = tmp_path_factory.mktemp("geojson")
    return folder / "slide.tif", synthetic.write(folder / "slide.tif", seed=5, size_px=(384, 320))


def hard(shape):
    """Labels with holes, with parts that touch at a corner or lie apart, and single pixels."""
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.int32)
    for i in range(1, 40):
        y, x = (int(rng.integers(0, side - 20)) for side in shape)
        labels[y : y + 20, x : x + 20][rng.random((20, 20)) < (0.5 if i % 5 == 0 else 0.95)] = 1000 + 7 * i
    return labels


@pytest.mark.parametrize(
    ("mpp", "size", "stride", "stated"),
    [(0.5, 96, None, 0.5), (0.5, 100, 60, 0.499), (1.0, 64, 40, 0.25), (1.0, 64, None, 0.499)],
)
@pytest.mark.filterwarnings("ignore:.*hardly darker")  # such labels lie anywhere
@pytest.mark.filterwarnings("ignore:a file gives")
def test_import_after_export_gives_the_same_labels(slide, tmp_path, mpp, size, stride, stated):
    save = hard((320, 384))
    Image.fromarray(save.astype(np.uint16)).save(tmp_path / "slide.png")
    config = TileConfig(size_px=size, mpp=mpp, stride_px=stride, mpp_override=stated, min_tissue=0.1)
    tile([slide[0]], tmp_path / "store", config, quiet=True)
    found = cells(tmp_path / "store", CellsConfig(segmenter=f"labels:{tmp_path / 'slide.png'}"), quiet=True)
    summary = cells_export(tmp_path / "store", tmp_path / "out", cells="labels", quiet=True).summary
    assert summary.all.pixels_that_differ == 0
    again = cells(tmp_path / "store", CellsConfig(segmenter=f"geojson:{tmp_path / 'out'}"), quiet=True)
    assert sum((found.labels(i) > 0).sum() for i in range(len(found))) > 300
    for i in range(len(found)):
        assert np.array_equal(found.labels(i), again.labels(i))
        assert np.array_equal(found.regions(i), again.regions(i))


def test_a_slide_without_nuclei_comes_back_without(slide, tmp_path):
    tile([slide[0]], tmp_path / "store", TileConfig(size_px=96, min_tissue=0.1), quiet=True)
    file = written(tmp_path)
    for name, place in (("none", file), ("again", tmp_path / "out")):
        found = cells(tmp_path / "store", CellsConfig(segmenter=f"geojson:{place}", name=name), quiet=True)
        assert found.card.counts["nuclei"] == 0 and not found.labels(0).any()
        summary = cells_export(
            tmp_path / "store", tmp_path / "out", cells=name, overwrite=True, quiet=True
        ).summary
        assert summary.all == Exported(files=1, nuclei=0, pixels_that_differ=0)


def test_what_was_mended_or_left_out_is_counted_with_the_cells(slide, tmp_path):
    tile([slide[0]], tmp_path / "store", TileConfig(size_px=96, min_tissue=0.1), quiet=True)
    file = written(tmp_path, square(20, 20), square(900, 900))
    found = cells(tmp_path / "store", CellsConfig(segmenter=f"geojson:{file}"), quiet=True)
    assert found.card.counts["notes"] == {"outside the image": 1}
    assert read_json(found.path / "summary.json")["slides"]["slide"]["notes"] == {"outside the image": 1}


def test_found_nuclei_come_back_too_with_what_qupath_shows(slide, tmp_path):
    tile([slide[0]], tmp_path / "store", TileConfig(size_px=96, min_tissue=0.1), quiet=True)
    found = cells(tmp_path / "store", CellsConfig(window_px=256, halo_px=48), quiet=True)
    cells_export(tmp_path / "store", tmp_path / "out", quiet=True)
    again = cells(tmp_path / "store", CellsConfig(segmenter=f"geojson:{tmp_path / 'out'}"), quiet=True)
    assert all(np.array_equal(found.labels(i), again.labels(i)) for i in range(len(found)))
    first = read_json(tmp_path / "out" / "slide.geojson")["features"][0]
    nuclei = found.nuclei("slide").to_pydict()
    at = nuclei["id"].index(first["properties"]["measurements"]["dirl id"])
    assert first["properties"]["objectType"] == "detection"
    assert first["properties"]["measurements"]["Area µm^2"] == pytest.approx(nuclei["area_um2"][at], abs=1e-3)
    assert first["properties"]["measurements"]["Centroid X µm"] == pytest.approx(
        nuclei["x"][at] / 2, abs=1e-3
    )
    assert read_json(tmp_path / "out" / "card.json")["stage"] == "cells-export"
    before = (tmp_path / "out" / "slide.geojson").read_bytes()
    cells_export(tmp_path / "store", tmp_path / "out", quiet=True)
    assert (tmp_path / "out" / "slide.geojson").read_bytes() == before
    with pytest.raises(StoreError, match="made with other settings"):
        cells_export(tmp_path / "store", tmp_path / "out", cells="geojson", quiet=True)
    with pytest.raises(ConfigError, match="cannot write 'csv'"):
        cells_export(tmp_path / "store", tmp_path / "out", to="csv")  # type: ignore[arg-type]  # no such format


def test_ready_made_tiles_have_a_file_each_and_come_back_with_their_classes(tmp_path):
    rng = np.random.default_rng(1)
    for name in ("a/t1", "a/t2", "b/t1"):
        for folder in ("tiles", "maps"):
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 255, (96, 96, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "tiles" / f"{name}.png")
        labels = hard((96, 96))
        ids = np.unique(labels[labels > 0])
        np.savez(tmp_path / "maps" / f"{name}.npz", labels=labels, classes=np.array(["x", "y"])[ids % 2])
    tile([tmp_path / "tiles"], tmp_path / "store", TileConfig(mpp_override=0.5), quiet=True)
    found = cells(tmp_path / "store", CellsConfig(segmenter=f"labels:{tmp_path / 'maps'}"), quiet=True)
    cells_export(tmp_path / "store", tmp_path / "out", cells="labels", quiet=True)
    assert {str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.geojson")} == {
        "a/t1.geojson", "a/t2.geojson", "b/t1.geojson",
    }  # fmt: skip
    again = cells(tmp_path / "store", CellsConfig(segmenter=f"geojson:{tmp_path / 'out'}"), quiet=True)
    for i in range(len(TileStore.open(tmp_path / "store"))):
        assert np.array_equal(found.labels(i), again.labels(i))
    for slide_id in ("a", "b"):
        was, now = (each.nuclei(slide_id).to_pydict() for each in (found, again))
        assert (
            dict(zip(was["id"], was["class"], strict=True)).items()
            >= dict(zip(now["id"], now["class"], strict=True)).items()
        )
