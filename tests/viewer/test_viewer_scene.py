"""What is shown: pictures in Deep Zoom tiles, outlines, measures, neighbours, and what is refused."""

import json
import shutil
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from dirl.config import TileConfig
from dirl.core.card import finish, new_card, note_change
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, SlideError, StoreError
from dirl.core.journal import note_written
from dirl.features.feature_files import write_rows
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.viewer.entries import entries_of_store
from dirl.viewer.maps import SlideMap
from dirl.viewer.measures import PER_HEAD, AuditMeasures
from dirl.viewer.neighbours import read_neighbours
from dirl.viewer.overlays import TOLERANCE_PX, outline_nuclei
from dirl.viewer.pictures import MOST_PX, TILE_PX, SlidePicture, deep_zoom_tile, read_reduced, top_level
from dirl.viewer.scene import Scene
from tests.known import known
from tests.viewer_cases import TOKEN_PX, map_values, measured, write_map


class Gradient:
    """A picture whose every pixel is known: red is x, green is y, in 1/16 of a level-0 pixel."""

    mpp = 0.5

    def __init__(self, size_px):
        self.size_px = size_px
        self.most = 0

    def step(self, downsample):
        return float(downsample)  # as a slide of one level

    def read(self, x, y, w, h, downsample):
        self.most = max(self.most, w * h * downsample**2)
        rows, columns = np.mgrid[y : y + h, x : x + w] * downsample + (downsample - 1) / 2
        return np.stack([columns / 16, rows / 16, 0 * rows], axis=-1).astype(np.uint8)


def test_coarse_boxes_are_put_together_from_fine_ones():
    picture = Gradient((4000, 4000))
    whole = read_reduced(picture, 0, 0, 250, 250, 16)
    assert picture.most <= MOST_PX and whole.shape == (250, 250, 3)
    assert np.abs(whole.astype(int) - Gradient((4000, 4000)).read(0, 0, 250, 250, 16)).max() <= 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700))
def test_deep_zoom_tiles_cover_the_picture_at_every_level(width, height):
    picture = Gradient((width, height))
    top = top_level(picture.size_px)
    for level in {0, top // 2, top}:
        reduced = [-(-side // 2 ** (top - level)) for side in (width, height)]
        columns, rows = (-(-side // TILE_PX) for side in reduced)
        last = simplejpeg.decode_jpeg(deep_zoom_tile(picture, level, columns - 1, rows - 1))
        expected = [
            side - (count - 1) * TILE_PX for side, count in zip(reduced, (columns, rows), strict=True)
        ]
        assert last.shape[1::-1] == tuple(expected)
        assert deep_zoom_tile(picture, level, columns, 0) is None
    assert deep_zoom_tile(picture, top + 1, 0, 0) is None


def test_a_slide_that_has_gone_is_drawn_from_its_tiles(small_store, tmp_path):
    scene = Scene(small_store)
    whole = scene.open_entry(0)
    shutil.copytree(small_store, tmp_path / "store")
    slides = tmp_path / "store" / "slides.json"
    slides.write_text(slides.read_text().replace("slide.tif", "gone.tif"))
    note_change(tmp_path / "store", "slides.json")
    opened = Scene(tmp_path / "store").open_entry(0)
    assert "no such file" in opened.note and opened.slide is None and whole.note == ""
    assert opened.picture.size_px == whole.picture.size_px == (512, 512)
    for x, y in list(zip(opened.x, opened.y, strict=True))[::9]:
        there, here = (one.picture.read(int(x), int(y), 64, 64, 1).astype(int) for one in (whole, opened))
        assert np.abs(there - here).mean() < 4
    overview = [one.picture.read(0, 0, 64, 64, 8).astype(int) for one in (whole, opened)]
    assert np.median(np.abs(overview[0] - overview[1])) < 12


def test_ready_made_tiles_lie_in_pages_in_rows(tmp_path, monkeypatch):
    monkeypatch.setattr("dirl.viewer.entries.PAGE", 8)
    rng = np.random.default_rng(0)
    for name, count in (("a", 10), ("b", 3)):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for i in range(count):
            colour = tuple(rng.integers(60, 250, 3).tolist())
            Image.new("RGB", (16, 16), colour).save(tmp_path / "tiles" / name / f"{i:04d}.png")
    store = tile([tmp_path / "tiles"], tmp_path / "store", TileConfig(mpp_override=1.0), quiet=True)
    scene = Scene(store.path)
    assert [one.name for one in scene.entries] == ["a, 1–8", "a, 9–10", "b"]
    entry = scene.describe_entry(0)
    assert "ready-made" in entry["note"] and not entry["tissue"]
    opened = scene.open_entry(0)
    for i in (0, 3, 7):
        x, y = int(opened.x[i]), int(opened.y[i])
        shown = opened.picture.read(x, y, 16, 16, 1).astype(int)
        assert np.abs(shown - store.image(int(scene.entries[0].rows[i]))).max() <= 2
        assert x + 16 <= opened.picture.size_px[0] and y + 16 <= opened.picture.size_px[1]
    assert scene.describe_tile(8)["entry"] == 1 and scene.describe_tile(8)["place"] is None


def disk(draw, x, y, radius, label):
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=label)


def test_outlines_lie_on_the_border_and_end_where_the_tile_does():
    image = Image.new("I", (64, 64))
    draw = ImageDraw.Draw(image)
    disk(draw, 30, 20, 8, 1)
    disk(draw, 30, 37, 8, 2)  # touches the first
    disk(draw, 63, 50, 6, 3)  # half outside
    found = outline_nuclei(np.asarray(image, np.int32))
    assert set(found) == {1, 2, 3}
    for label, (x, y) in ((1, (30.5, 20.5)), (2, (30.5, 37.5))):
        (line,) = found[label]
        assert np.array_equal(line[0], line[-1])
        radius = np.hypot(*(line - (x, y)).T)
        assert radius.min() > 7 and radius.max() < 9.6
    (cut,) = found[3]
    assert not np.array_equal(cut[0], cut[-1]) and cut[:, 0].max() == 63.5


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_an_outline_holds_as_many_pixels_as_its_nucleus(seed):
    rng = np.random.default_rng(seed)
    image = Image.new("I", (48, 48))
    draw = ImageDraw.Draw(image)
    for label in range(1, 6):
        x, y, radius = rng.integers(8, 40), rng.integers(8, 40), rng.integers(3, 8)
        disk(draw, int(x), int(y), int(radius), label)
    labels = np.asarray(image, np.int32)
    for label, lines in outline_nuclei(labels).items():
        area = length = 0.0
        for line in lines:
            x, y = line.T
            area += 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
            length += float(np.hypot(np.diff(x), np.diff(y)).sum())
        # Simplified, the outline of a sliver encloses nothing; no line moves by more than the tolerance.
        assert abs(abs(area) - int((labels == label).sum())) <= TOLERANCE_PX * length


def test_nuclei_keep_their_classes(small_store, tmp_path):
    shutil.copytree(small_store, tmp_path / "store")
    store = TileStore.open(tmp_path / "store")
    plain = store.cells("hematoxylin")
    ids = plain.nuclei("slide")["id"].to_numpy()
    nothing = np.zeros(len(ids), np.float32)
    columns = {"id": ids, "x": nothing, "y": nothing, "area_um2": nothing, "touches_border": nothing > 0}
    columns["class"] = [[None, "tumour", "lymphocyte"][i % 3] for i in ids.tolist()]
    items = ((name, plain.labels(i), plain.regions(i)) for i, name in enumerate(store.tile_ids.tolist()))
    card = claim(cells_dir(store.path, "typed"), new_card("cells", {}))
    write_cells(store.path, "typed", "slide", items, columns)
    merge_cells(store.path, "typed")
    finish(cells_dir(store.path, "typed"), card, {})

    scene = Scene(store.path)
    assert scene.describe_entry(0)["classes"] == {"hematoxylin": [], "typed": ["lymphocyte", "tumour"]}
    i = len(store) // 2
    nuclei = scene.nuclei(0, "typed", i)
    assert {one["id"] for one in nuclei} == set(np.unique(plain.labels(i)).tolist()) - {0}
    assert all(one["class"] == [-1, 1, 0][one["id"] % 3] for one in nuclei)
    assert {one["class"] for one in scene.nuclei(0, "hematoxylin", i)} == {-1}
    counted = scene.describe_tile(i)["nuclei"][1]
    assert counted["count"] == len(nuclei)
    assert counted["classes"]["tumour"] == sum(one["class"] == 1 for one in nuclei)
    # Cells that lack a tile are left out, and named.
    (store.path / "cells" / "typed" / "slide.parquet").unlink()
    merge_cells(store.path, "typed")
    note_change(cells_dir(store.path, "typed"), "index.parquet")
    with pytest.warns(UserWarning, match="no cells of typed for"):
        assert list(Scene(store.path).cells) == ["hematoxylin"]


def test_a_map_reads_boxes_of_every_level(maps):
    held, values = SlideMap(maps[0]), map_values(0)
    assert held.token_px == TOKEN_PX and held.levels == 2
    assert np.array_equal(held.read(2, 0, 0, 64, 64), values[2], equal_nan=True)
    assert np.array_equal(held.read(1, 20, 30, 25, 9), values[1, 30:39, 20:45], equal_nan=True)
    assert np.array_equal(held.read(0, 3, 5, 20, 20, level=1), values[0, 10:50:2, 6:46:2], equal_nan=True)
    outside = held.read(0, -5, 60, 10, 10)
    assert np.isnan(outside[:, :5]).all() and np.isnan(outside[4:]).all()
    assert np.array_equal(outside[:4, 5:], values[0, 60:, :5])
    held.close()


def test_measures_of_tiles(audit, small_store):
    store = TileStore.open(small_store)
    held = AuditMeasures(audit, store)
    rows = np.arange(len(store))
    for block, head in ((0, 0), (1, 1), (1, -1)):
        found = held.values(rows, 0, block, head, "entropy")
        assert np.allclose(found[:-1], [measured(i, block, head) for i in rows[:-1]]) and np.isnan(found[-1])
    means = held.values(rows, 1, 1, PER_HEAD, "entropy")
    assert np.allclose(means[:-1], [measured(i, 1, 0.5) for i in rows[:-1]])
    one, two = held.of_tile(7)
    assert one["name"] == "one" and two["measures"]["entropy"] == pytest.approx(measured(7, 1, 0.5))
    assert one["enrichment"]["nuclei"] == 0
    assert held.of_tile(len(store) - 1) == []


def test_neighbours_by_id_and_by_place(features, small_store, tmp_path):
    store = TileStore.open(small_store)
    held = read_neighbours(features, store)
    assert {k for k, _ in held.nearest(10)[:4]} == {8, 9, 11, 12}
    assert [cosine for _, cosine in held.nearest(10)] == sorted(
        (c for _, c in held.nearest(10)), reverse=True
    )
    nearest, cosine = held.nearest(0)[0]
    assert nearest == 1 and cosine == pytest.approx(np.cos(0.05), abs=1e-5)
    # As CLAM and TRIDENT write them: no ids, the slide is the file's name.
    coords = np.stack([store.index[name].to_numpy() for name in ("x", "y")], axis=1)[:5]
    write_rows(tmp_path / "slide.h5", {"features": np.eye(5, dtype=np.float32), "coords": coords})
    few = read_neighbours(tmp_path / "slide.h5", store)
    assert len(few.nearest(0)) == 4 and few.nearest(5) == []


def test_what_does_not_belong_is_refused(small_store, maps, audit, features, tmp_path):
    slide = small_store.parent / "slide.tif"
    with pytest.raises(SlideError, match="no such file"):
        Scene(tmp_path / "nowhere.svs")
    with pytest.raises(StoreError, match="neither a tile store nor a DICOM slide"):
        Scene(tmp_path)
    with pytest.raises(ConfigError, match="--audit: needs a tile store"):
        Scene(slide, audit=audit)
    with pytest.raises(ConfigError, match="--features: needs a tile store"):
        Scene(slide, features=features)
    with pytest.raises(ConfigError, match="--mpp-override"):
        Scene(small_store, mpp_override=0.5)
    with pytest.raises(StoreError, match="made by `dirl audit`, not by `dirl map`"):
        Scene(small_store, maps=[audit])
    with pytest.raises(StoreError, match="not an output of dirl audit"):
        Scene(small_store, audit=tmp_path)
    other = write_map(tmp_path / "other", "x", map_values(), slide_id="another")
    with pytest.raises(StoreError, match="a map of another, which is not shown here"):
        Scene(small_store, maps=[other])
    larger = write_map(tmp_path / "larger", "x", map_values(), slide_px=(600, 512))
    with pytest.raises(StoreError, match="has 512×512 px"):
        Scene(small_store, maps=[larger])


@pytest.mark.parametrize(
    "damage", ["truncated", "no file", "size", "channels", "summary", "escape", "no regions", "regions"]
)
def test_a_damaged_map_is_refused(maps, tmp_path, damage):
    folder = tmp_path / "map"
    shutil.copytree(maps[0], folder)
    summary = json.loads((folder / "summary.json").read_text())
    image = folder / "attention.ome.tif"
    if damage == "truncated":
        image.write_bytes(image.read_bytes()[:10])
    elif damage == "no file":
        image.unlink()
    elif damage == "no regions":
        (folder / "regions.geojson").unlink()
    elif damage == "regions":
        regions = (folder / "regions.geojson").read_text()
        (folder / "regions.geojson").write_text(regions.replace("128", "NaN"))
    elif damage == "size":
        summary["map"]["size_px"] = [65, 64]
    elif damage == "channels":
        summary["channels"].pop()
    elif damage == "summary":
        del summary["channels"][0]["range"]
    else:
        summary["files"]["float"] = "../../../outside.tif"
    (folder / "summary.json").write_text(json.dumps(summary))
    note_change(folder, "summary.json", "regions.geojson")
    with pytest.raises(StoreError, match=r"`dirl map.*--overwrite"):
        SlideMap(folder)


def test_an_audit_of_other_tiles_is_refused(audit, small_store, tmp_path):
    card = claim(tmp_path / "audit", new_card("audit", {}, {"store": "0" * 16}))
    shutil.copytree(audit, tmp_path / "audit", ignore=lambda *_: ["card.json"], dirs_exist_ok=True)
    note_written(tmp_path / "audit")
    finish(tmp_path / "audit", card, {})
    with pytest.raises(StoreError, match="other tiles"):
        AuditMeasures(tmp_path / "audit", TileStore.open(small_store))


@pytest.mark.parametrize("shape", [(3,), (4, 2, 2)])
def test_features_that_are_none_are_refused(small_store, tmp_path, shape):
    write_rows(
        tmp_path / "slide.h5", {"features": np.zeros(shape, np.float32), "coords": np.zeros((4, 2), int)}
    )
    with pytest.raises(StoreError, match="cannot be read"):
        read_neighbours(tmp_path / "slide.h5", TileStore.open(small_store))
    (tmp_path / "text.h5").write_text("no features")
    with pytest.raises(StoreError, match="cannot be read"):
        read_neighbours(tmp_path / "text.h5", TileStore.open(small_store))
    with pytest.raises(StoreError, match="contains no features"):
        read_neighbours(small_store, TileStore.open(small_store))


def test_a_real_slide_and_its_entries(data_dir):
    scene = Scene(data_dir / "slides" / "CMU-1-Small-Region.svs")
    picture = scene.open_entry(0).picture
    assert isinstance(picture, SlidePicture) and picture.size_px == (2220, 2967)
    assert scene.describe_entry(0)["numbers"] == [] and scene.slide_tile(0, 12, 8, 11) is not None
    with pytest.raises(SlideError, match="--mpp-override"):
        Scene(data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs")


def test_every_tile_has_an_entry(small_store):
    store = TileStore.open(small_store)
    rows = np.concatenate([entry.rows for entry in entries_of_store(store)])
    assert np.array_equal(np.sort(rows), np.arange(len(store)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_until_it_is_interrupted(small_store, number):
    command = [sys.executable, "-m", "dirl.cli.main", "view", str(small_store), "--no-browser"]
    how: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **how) as running:
        try:
            lines = [known(running.stdout).readline() for _ in range(3)]
            running.send_signal(number)
            _, errors = running.communicate(timeout=30)
        finally:
            running.kill()
    assert "http://127.0.0.1:" in lines[0] and "ssh -L" in lines[1] and "Ctrl-C" in lines[2]
    assert running.returncode == 0 and errors == ""


def test_all_that_is_heavy_is_imported_before_the_first_request(small_store, maps, audit, features):
    """Else the first reader waits for it, and so does everyone who comes meanwhile."""
    code = """
import sys
from pathlib import Path
from dirl.viewer.run import open_viewer
store, one, audit, features = map(Path, sys.argv[1:])
with open_viewer(store, maps=[one], audit=audit, features=features) as viewer:
    assert "torch" not in sys.modules
    known, scene = set(sys.modules), viewer.scene
    scene.describe(), scene.describe_entry(0), scene.tissue(0), scene.nuclei(0, "hematoxylin", 0)
    scene.describe_tile(0), scene.values(0, 0, 0, -1, "entropy"), scene.slide_tile(0, 8, 0, 0)
    scene.maps[0].deep_zoom_tile(0, 6, 0, 0, "inferno", (0.0, 2.0))
    late = {name.partition(".")[0] for name in set(sys.modules) - known} - {"PIL", "dirl"}
    assert not late, late
"""
    command = [sys.executable, "-c", code, *map(str, (small_store, maps[0], audit, features))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
