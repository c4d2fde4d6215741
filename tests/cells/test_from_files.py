"""The user's own nuclei: from maps and from QuPath, by slide and by tile, cut as found ones are."""

import json
import shutil
from contextlib import contextmanager

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import distance_transform_edt

from dirl.cells import run
from dirl.cells.files.label_maps import LabelMaps, read_map
from dirl.cells.registry import load_segmenter
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError, PartlyFailedError, StoreError
from dirl.core.files import read_json
from dirl.prior.dense_term import make_dense_term
from dirl.prior.source import CellRegions
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import write
from tests.known import known

SIZE = 96
CLASSES = ("epithelium", "stroma")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Two small slides, a store of their tiles, and their true labels."""
    folder = tmp_path_factory.mktemp("own")
    slides = {name: write(folder / "slides" / f"{name}.tiff", seed, (384, 288))
              for seed, name in ((3, "one"), (4, "two"))}  # fmt: skip
    tile([folder / "slides"], folder / "store", TileConfig(size_px=SIZE, min_tissue=0.1), quiet=True)
    return folder / "store", {name: slide.labels.astype(np.int32) for name, slide in slides.items()}


@pytest.fixture
def store(drawn, tmp_path):
    return shutil.copytree(drawn[0], tmp_path / "store")


@pytest.fixture
def truth(drawn):
    return drawn[1]


def save(file, labels):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint16)).save(file)


def own(store, place, kind="labels", **more):
    return cells(store, CellsConfig(segmenter=f"{kind}:{place}", **more), quiet=True)


def expect(store, found, truth, factor=1):
    """Every tile has the pixels of the truth that lie under it."""
    tiles = TileStore.open(store)
    for i in range(len(tiles)):
        whole = truth[str(tiles.slide_ids[i])]
        x, y = (tiles.index[name][i].as_py() for name in ("x", "y"))
        assert np.array_equal(found.labels(i), whole[y : y + SIZE, x : x + SIZE]), tiles.tile_ids[i]
        assert np.array_equal(found.regions(i) == 1, found.labels(i) > 0)


@pytest.mark.parametrize("kind", ["png", "tif", "npz", "labels.png"])
def test_maps_of_slides_are_cut_by_the_tiles(store, truth, tmp_path, kind):
    for name, labels in truth.items():
        file = tmp_path / "maps" / f"{name}.{kind}"
        file.parent.mkdir(exist_ok=True)
        if kind == "npz":
            np.savez_compressed(file, labels=labels, other=labels[:2])
        elif kind == "tif":
            tifffile.imwrite(file, labels, compression="zlib")
        else:
            save(file, labels)
            if kind == "labels.png":
                Image.new("RGB", (4, 4)).save(file.with_name(f"{name}.png"))
    found = own(store, tmp_path / "maps")
    assert found.name == "labels"
    expect(store, found, truth)
    nuclei = found.nuclei("one").to_pydict()
    areas = np.bincount(truth["one"].ravel())
    assert nuclei["id"] == (np.flatnonzero(areas[1:]) + 1).tolist()
    assert np.allclose(nuclei["area_um2"], areas[nuclei["id"]] * 0.25)
    first = np.argwhere(truth["one"] == nuclei["id"][0]).mean(0) + 0.5
    assert np.allclose(first, (nuclei["y"][0], nuclei["x"][0]), atol=1e-3)
    edge = {*truth["one"][[0, -1]].ravel().tolist(), *truth["one"][:, [0, -1]].ravel().tolist()} - {0}
    assert {i for i, at in zip(nuclei["id"], nuclei["touches_border"], strict=True) if at} == edge
    assert read_json(found.path / "summary.json")["all"]["nuclei"] > 0


def test_maps_of_tiles_and_ids_that_several_have(store, truth, tmp_path):
    tiles = TileStore.open(store)
    parts = {}
    for i, name in enumerate(tiles.tile_ids.tolist()):
        x, y = (tiles.index[c][i].as_py() for c in ("x", "y"))
        part = truth[str(tiles.slide_ids[i])][y : y + SIZE, x : x + SIZE]
        parts[name] = np.unique(part, return_inverse=True)[1].reshape(part.shape)
        if part.min() > 0:
            parts[name] += 1
        save(tmp_path / "maps" / f"{name}.png", parts[name])
    found = own(store, tmp_path / "maps", name="by-tile")
    seen: dict[str, set[int]] = {"one": set(), "two": set()}
    for i, name in enumerate(tiles.tile_ids.tolist()):
        labels = found.labels(i)
        assert np.array_equal(np.unique(labels, return_inverse=True)[1].reshape(labels.shape), parts[name])
        ids = set(labels[labels > 0].tolist())
        assert not ids & seen[str(tiles.slide_ids[i])]
        seen[str(tiles.slide_ids[i])] |= ids
    assert set(found.nuclei("one")["id"].to_pylist()) == seen["one"]


def test_a_map_of_another_resolution_is_scaled(store, truth, tmp_path):
    for name, labels in truth.items():
        save(tmp_path / "half" / f"{name}.png", labels[::2, ::2])
    found = own(store, tmp_path / "half")
    expect(store, found, {name: t[::2, ::2].repeat(2, 0).repeat(2, 1) for name, t in truth.items()})
    again = own(store, f"{tmp_path / 'half'},mpp=1.0", name="stated")
    assert all(np.array_equal(found.labels(i), again.labels(i)) for i in range(len(found)))
    with pytest.raises(PartlyFailedError, match="do not cover the image of 384×288 px"):
        own(store, f"{tmp_path / 'half'},mpp=0.7", name="wrong")


def test_classes_of_maps(store, truth, tmp_path):
    for name, labels in truth.items():
        ids = np.unique(labels[labels > 0])
        np.savez(tmp_path / f"{name}.npz", labels=labels, classes=np.array(CLASSES)[ids % 2])
    found = own(store, tmp_path)
    nuclei = found.nuclei("two").to_pydict()
    assert nuclei["class"] == [CLASSES[i % 2] for i in nuclei["id"]]
    save(tmp_path / "other" / "one.png", truth["one"])
    save(tmp_path / "other" / "two.png", truth["two"])
    (tmp_path / "other" / "one.json").write_text(json.dumps({str(nuclei["id"][0]): "blood"}))
    named = own(store, tmp_path / "other", name="named").nuclei("one").to_pydict()
    assert set(named["class"]) <= {"blood", None}
    assert read_json(found.path / "summary.json")["slides"]["two"]["classes"].keys() == set(CLASSES)


def test_classes_are_regions_of_the_prior_and_the_ring_is_in_micrometres(store, truth, tmp_path, recipe):
    for name, labels in truth.items():
        ids = np.unique(labels[labels > 0])
        np.savez(tmp_path / f"{name}.npz", labels=labels, classes=np.array(CLASSES)[ids % 2])
    found = own(store, tmp_path)
    tiles = TileStore.open(store)
    both = {}
    for regions in ("classes", "tissue"):
        dense = recipe.dense.model_copy(update={"weight": 1.0, "regions": regions, "ring_um": 3.0})
        source = known(make_dense_term(dense, tiles, "labels", 0)).source
        assert isinstance(source, CellRegions)
        both[regions] = source
    assert both["classes"].regions.names == (*CLASSES, "rest")
    for i in range(0, len(tiles), 3):
        labels, tissue = found.labels(i), found.regions(i) > 0
        expected = np.where(labels > 0, 1 + labels % 2, np.where(tissue, 3, 0))
        assert np.array_equal(both["classes"].ids(i), expected)
        near = distance_transform_edt(labels == 0) <= 3.0 / 0.5
        expected = np.where(labels > 0, 1, np.where(tissue, np.where(near, 2, 3), 0))
        assert not labels.any() or np.array_equal(both["tissue"].ids(i), expected)


def test_the_bar_moves_with_every_tile(store, truth, tmp_path, monkeypatch):
    for name, labels in truth.items():
        save(tmp_path / "maps" / f"{name}.png", labels)
    steps = []

    @contextmanager
    def bar(description, total, *, quiet):
        yield lambda count=1, note=None: steps.append(count)

    monkeypatch.setattr(run, "bar", bar)
    own(store, tmp_path / "maps")
    assert sum(steps) == len(TileStore.open(store)) and max(steps) == 1


def test_a_file_that_changed_is_read_again_and_no_other(store, truth, tmp_path):
    for name, labels in truth.items():
        save(tmp_path / "maps" / f"{name}.png", labels)
    folder = own(store, tmp_path / "maps").path
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tar")}
    changed = truth["two"] * (truth["two"] % 3 > 0)
    save(tmp_path / "maps" / "two.png", changed)
    found = own(store, tmp_path / "maps")
    assert {p.name for p in folder.glob("*.tar") if p.stat().st_mtime_ns != before[p.name]} == {"two.tar"}
    expect(store, found, truth | {"two": changed})
    again = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tar")}
    own(store, tmp_path / "maps")
    assert again == {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tar")}


def test_a_slide_without_a_map_is_named_and_the_others_are_done(store, truth, tmp_path):
    save(tmp_path / "maps" / "one.png", truth["one"])
    with pytest.raises(PartlyFailedError, match=r"1 failed, 1 done:\n.*has no file for two") as failed:
        own(store, tmp_path / "maps")
    assert failed.value.exit_code == 2
    some = next(t for t in TileStore.open(store).tile_ids.tolist() if t.startswith("two"))
    save(tmp_path / "maps" / f"{some}.png", np.zeros((SIZE, SIZE)))
    with pytest.raises(PartlyFailedError, match=r"of the \d+ tiles of two"):
        own(store, tmp_path / "maps")
    (tmp_path / "maps" / f"{some}.png").unlink()
    save(tmp_path / "maps" / "two.png", truth["two"])
    expect(store, own(store, tmp_path / "maps"), truth)
    (tmp_path / "maps" / "two.png").unlink()  # withdrawn: its cells are the user's no longer
    with pytest.raises(PartlyFailedError, match="has no file for two"):
        own(store, tmp_path / "maps")
    with pytest.raises(StoreError, match="no cells of labels for"):
        TileStore.open(store).cells("labels")


def test_a_picture_that_is_too_large_is_told_as_such(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.ones((16, 16)))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ConfigError, match="TIFF or NPZ"):
        read_map(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.zeros((8, 8), np.float32), "one integer per pixel, not float32"),
        (np.zeros((8, 8, 3), np.uint8), "a colour picture, not instance ids"),
        (np.full((8, 8), 2**31, np.uint32), "must lie in 0"),
        (np.full((8, 8), -1, np.int32), "ids reach from -1"),
        (np.kron(np.eye(4), np.array([[255, 0], [0, 0]])).astype(np.uint8), "a mask, not instance ids"),
        (np.ones((8, 8), bool), "one integer per pixel"),
    ],
)
def test_what_is_no_map_is_refused(tmp_path, values, reason):
    np.savez(tmp_path / "a.npz", values)
    with pytest.raises(ConfigError, match=reason):
        read_map(tmp_path / "a.npz")
    if values.dtype != bool:
        tifffile.imwrite(tmp_path / "a.tif", values)
        with pytest.raises(ConfigError, match=reason):
            read_map(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.npz"])
def test_a_damaged_map_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot be read as labels"):
        read_map(tmp_path / name)


def test_a_place_that_is_not_there():
    with pytest.raises(ConfigError, match="no such file or folder"):
        LabelMaps("nowhere")
    with pytest.raises(ConfigError, match="labels:DIR_OR_FILE"):
        load_segmenter("labels")


def test_ready_made_tiles_have_maps_by_the_names_of_their_files(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        for k in range(2):
            (tmp_path / "tiles" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(
                tmp_path / "tiles" / label / f"t.{k}.png"
            )
            labels = np.zeros((64, 64), int)
            labels[10:20, 10 + k : 20] = 7
            labels[40:50, 40:50] = 9 if label == "a" else 0
            save(tmp_path / "maps" / label / f"t.{k}.png", labels)
    tile([tmp_path / "tiles"], tmp_path / "store", TileConfig(mpp_override=0.5), quiet=True)
    found = own(tmp_path / "store", tmp_path / "maps")
    tiles = TileStore.open(tmp_path / "store")
    for i, name in enumerate(tiles.tile_ids.tolist()):
        label, k = name[0], int(name[-1])
        assert (found.labels(i) > 0).sum() == 100 - 10 * k + 100 * (label == "a")
    nuclei = found.nuclei("a").to_pydict()
    assert nuclei["id"] == [7, 9, 10, 11]
    assert nuclei["tile_id"] == ["a/t_0", "a/t_0", "a/t_1", "a/t_1"]
    assert nuclei["x"][0] == 15 and nuclei["area_um2"][0] == 25
    shutil.move(tmp_path / "maps" / "a" / "t.0.png", tmp_path / "maps" / "t.0.png")
    with pytest.raises(PartlyFailedError, match="has no file for 1 of the 2 tiles of a"):
        own(tmp_path / "store", tmp_path / "maps", name="moved")
