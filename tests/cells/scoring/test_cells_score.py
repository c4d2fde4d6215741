"""Scores over images: whoever has the labels, matched by name, with paired intervals."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from dirl import synthetic
from dirl.cells.scoring.metrics import Scores, score_nuclei
from dirl.cells.scoring.run import cells_score, score_images, summarise_scores
from dirl.cells.scoring.show import print_scores
from dirl.cells.scoring.summary import ScoreSummary
from dirl.core.card import finish, new_card, read_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError
from dirl.core.intervals import Estimate
from dirl.core.results import read_result
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from tests.known import known

MEASURES = ("dice", "f1", "sq", "pq", "aji")


def blobs(seed):
    """Squares of 8 px, most of them with a number of their own."""
    kept = np.random.default_rng(seed).random((11, 11)) < 0.9
    squares = (np.arange(1, 122).reshape(11, 11) * kept).astype(np.uint16).repeat(8, 0).repeat(8, 1)
    return squares[seed : seed + 80, :80]


def add_cells(store, name, change, classes=None):
    """Cells of another name: those of the store, changed tile by tile."""
    drawn = store.cells("hematoxylin")
    ids = drawn.nuclei("slide")["id"].to_pylist()
    columns = {column: [0.0] * len(ids) for column in ("x", "y", "area_um2")}
    columns |= {"id": ids, "touches_border": [False] * len(ids)}
    if classes is not None:
        columns["class"] = [classes(i) for i in ids]
    items = (
        (tile_id, change(drawn.labels(i)), drawn.regions(i))
        for i, tile_id in enumerate(store.tile_ids.tolist())
    )
    folder = cells_dir(store.path, name)
    card = claim(folder, new_card("cells", {"name": name}))
    write_cells(store.path, name, "slide", items, columns)
    merge_cells(store.path, name)
    finish(folder, card, {})


@pytest.fixture(scope="module")
def store(small_store, tmp_path_factory):
    """The small store, whose ``hematoxylin`` is the truth, with two that are worse."""
    path = tmp_path_factory.mktemp("compare") / "store"
    shutil.copytree(small_store, path)
    store = TileStore.open(path)
    add_cells(store, "half", lambda labels: labels * (labels % 2))
    add_cells(store, "moved", lambda labels: np.roll(labels, 3, 1), lambda i: "ab"[i % 2])
    return path


def slide_truth():
    return synthetic.draw(seed=1, size_px=(512, 512)).labels


def test_files_are_matched_by_name(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    (ours / "deep").mkdir(parents=True)
    (theirs / "deep").mkdir(parents=True)
    Image.fromarray(blobs(1)).save(ours / "a.png")
    np.savez(ours / "deep" / "b.npz", labels=blobs(2))
    Image.fromarray(blobs(1)).save(theirs / "a.labels.png")
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(theirs / "a.png")
    Image.fromarray(blobs(3)).save(theirs / "deep" / "b.labels.tif")
    table = score_images(ours, theirs, mpp=0.5)
    assert table.images == ("a", "deep/b") and table.predictions == ("ours",) and table.mpp == 0.5
    assert table.measures == (*MEASURES, *(f"coverage_r_{side}um" for side in (4, 8, 16)))
    assert tuple(table.values[0, 0, :5]) == (1, 1, 1, 1, 1)
    assert tuple(table.values[0, 1, :5]) == tuple(vars(score_nuclei(blobs(2), blobs(3))).values())
    single = score_images(ours / "deep" / "b.npz", theirs / "deep" / "b.labels.tif")
    assert np.array_equal(single.values[0, 0], table.values[0, 1, :5]) and single.measures == MEASURES
    assert summarise_scores(single).mean["b"]["pq"].low is None and summarise_scores(single).mpp is None

    (theirs / "deep" / "b.labels.tif").unlink()
    with pytest.raises(ConfigError, match="theirs: no labels for deep/b"):
        score_images(ours, theirs)
    (ours / "a.png").unlink()
    with pytest.raises(ConfigError, match="ours: no image in common: expected a; found deep/b"):
        score_images(ours, theirs)


def test_label_files_may_have_another_resolution(tmp_path):
    for side, labels in (("ours", blobs(1)), ("theirs", blobs(1).repeat(2, 0).repeat(2, 1))):
        (tmp_path / side).mkdir()
        Image.fromarray(labels).save(tmp_path / side / "a.png")
    assert score_images(tmp_path / "ours", tmp_path / "theirs").values[0, 0, 3] == 1
    assert score_images(tmp_path / "theirs", tmp_path / "ours", mpp=0.5).values[0, 0, 3] == 1
    Image.fromarray(blobs(1)[:70]).save(tmp_path / "ours" / "a.png")
    with pytest.raises(ConfigError, match=r"ours, a: predicted labels are 80×70 px.*not the same field"):
        score_images(tmp_path / "ours", tmp_path / "theirs")


@pytest.mark.parametrize("times", [1, 2])
def test_slides_are_put_together_where_files_have_their_names(store, tmp_path, times):
    truth = slide_truth().repeat(times, 0).repeat(times, 1).astype(np.uint16)
    Image.fromarray(truth).save(tmp_path / "slide.labels.png")
    table = score_images(store / "cells" / "hematoxylin", tmp_path)
    tiles = TileStore.open(store)
    assert table.images == ("slide",) and table.mpp == pytest.approx(0.5 / times)
    assert table.covered[0] == pytest.approx(len(tiles) * 64**2 / 512**2)
    assert tuple(table.values[0, 0, :5]) == (1, 1, 1, 1, 1) and (table.values[0, 0, 5:] > 0.999).all()
    other_way = score_images(tmp_path, store / "cells" / "hematoxylin")
    assert other_way.images == ("slide",) and other_way.values[0, 0, 3] == 1
    assert score_images(store / "cells" / "half", tmp_path, mpp=1.0).mpp == 1.0


def test_tiles_are_matched_where_files_have_their_names(store, tmp_path):
    tiles = TileStore.open(store)
    cells = tiles.cells("half")
    for i, name in enumerate(tiles.tile_ids[:3].tolist()):
        Image.fromarray(cells.labels(i).astype(np.uint16)).save(tmp_path / f"{name}.png")
    table = score_images(store / "cells" / "half", tmp_path)
    assert table.images == tuple(tiles.tile_ids[:3]) and table.slides == ("slide",) * 3
    assert (table.values[0, :, 3] == 1).all()
    against = score_images(tmp_path, store / "cells" / "hematoxylin")
    assert against.slides == ("slide",) * 3 and (against.values[0, :, 0] < 1).any()


def test_a_store_is_scored_segmenter_by_segmenter(store, tmp_path):
    table = score_images(store, store / "cells" / "hematoxylin", out=tmp_path / "out")
    tiles = TileStore.open(store)
    truth, half = tiles.cells("hematoxylin"), tiles.cells("half")
    assert table.predictions == ("half", "moved") and table.images == tuple(tiles.tile_ids)
    for i in range(len(tiles)):
        assert Scores(*table.values[0, i, :5]) == score_nuclei(half.labels(i), truth.labels(i))

    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert ScoreSummary.model_validate(found) == summarise_scores(table)
    assert found["interval"]["over"] == "images" and found["covered"] == 1
    pq = [found["mean"][name]["pq"]["value"] for name in table.predictions]
    assert pq == pytest.approx(table.values[:, :, 3].mean(1).tolist())
    assert found["best"] == table.predictions[np.argmax(pq)]
    (other,) = found["minus_best"]
    assert found["minus_best"][other]["pq"]["value"] == pytest.approx(min(pq) - max(pq))
    assert (
        found["minus_best"][other]["pq"]["low"]
        <= min(pq) - max(pq)
        <= found["minus_best"][other]["pq"]["high"]
    )
    with (tmp_path / "out" / "scores.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 2 * len(tiles) and rows[0]["prediction"] == "half"
    assert float(rows[-1]["pq"]) == pytest.approx(table.values[1, -1, 3], rel=1e-5)
    card = read_card(tmp_path / "out", "cells-score")
    assert card.finished and set(card.inputs) == {"truth", "predicted half", "predicted moved"}
    with pytest.raises(StoreError, match="made with other settings"):
        score_images(store / "cells" / "half", store / "cells" / "hematoxylin", out=tmp_path / "out")


def test_the_function_returns_what_it_wrote(store, tmp_path):
    truth = store / "cells" / "hematoxylin"
    result = cells_score(store, truth, out=tmp_path / "out", quiet=True)
    assert result == read_result(tmp_path / "out")
    assert result.summary == summarise_scores(score_images(store, truth))


def test_a_path_may_be_relative(store, monkeypatch):
    monkeypatch.chdir(store / "cells" / "half")
    assert score_images(Path(), Path("../hematoxylin")).predictions == ("half",)
    assert score_images(Path(".."), Path("../hematoxylin")).predictions == ("half", "moved")


def test_differences_are_paired(store):
    same = TileStore.open(store)
    add_cells(same, "again", lambda labels: labels * (labels % 2))
    table = score_images(store, store / "cells" / "hematoxylin")
    found = summarise_scores(table)
    shutil.rmtree(store / "cells" / "again")
    assert table.predictions == ("again", "half", "moved") and found.best != "half"
    if found.best == "again":
        assert found.minus_best["half"]["dice"] == Estimate(0, 0, 0)


def test_classes_are_scored_where_both_name_them(store):
    tiles = TileStore.open(store)
    add_cells(tiles, "typed", lambda labels: labels, lambda i: "ab"[i % 2] if i % 5 else "rare")
    try:
        table = score_images(store / "cells" / "moved", store / "cells" / "typed")
        perfect = score_images(store / "cells" / "typed", store / "cells" / "typed")
        several = score_images(store, store / "cells" / "typed")
    finally:
        shutil.rmtree(store / "cells" / "typed")
    assert table.classes == ("a", "b", "rare")
    first = table.measures.index("pq_a")
    by_class = np.nanmean(table.values[0, :, first:], axis=0)
    assert 0 < by_class[0] < 1 and by_class[2] == 0
    assert summarise_scores(table).mean["moved"]["mpq"].value == pytest.approx(by_class.mean())
    assert summarise_scores(perfect).mean["typed"]["mpq"] == Estimate(1, 1, 1)
    # The others name no classes: theirs is not nought, but unknown.
    mean = summarise_scores(several).mean
    assert mean["half"]["mpq"].value is None and known(mean["moved"]["mpq"].value) > 0
    assert score_images(store / "cells" / "moved", store / "cells" / "half").classes == ()


def test_the_table_fits_a_terminal(store):
    console = Console(width=80, record=True, file=io.StringIO())
    print_scores(score_images(store, store / "cells" / "hematoxylin"), None, console)
    text = console.export_text()
    assert "…" not in text and "minus " in text
    assert all(name in text for name in ("half", "moved", "Dice", "PQ", "r 16 µm"))


def test_bad_requests_are_named(store, tmp_path):
    with pytest.raises(ConfigError, match=r"several names.*cells/half"):
        score_images(store, store)
    with pytest.raises(StoreError, match=r"no cells of nobody; there are cells of half, hematoxylin, moved"):
        score_images(store / "cells" / "nobody", store / "cells" / "half")
    with pytest.raises(ConfigError, match="no such file or folder"):
        score_images(tmp_path / "absent", tmp_path)
    with pytest.raises(ConfigError, match=r"holds no label files.*STORE/cells/NAME"):
        score_images(tmp_path, tmp_path)
    Image.fromarray(blobs(1)).save(tmp_path / "other.png")
    with pytest.raises(ConfigError, match=r"no image in common: expected other; found slide_"):
        score_images(store, tmp_path)
    np.savez(tmp_path / "other.npz", blobs(1))
    with pytest.raises(ConfigError, match="two label files for other"):
        score_images(tmp_path, tmp_path)


def test_images_of_several_resolutions_want_one_stated(store, tmp_path):
    tiles = TileStore.open(store)
    for i, times in ((0, 1), (1, 2)):
        labels = tiles.cells("half").labels(i).repeat(times, 0).repeat(times, 1)
        Image.fromarray(labels.astype(np.uint16)).save(tmp_path / f"{tiles.tile_ids[i]}.png")
    with pytest.raises(ConfigError, match=r"has 0.25 µm/px, but .* has 0.5 — state one for all with --mpp"):
        score_images(store / "cells" / "half", tmp_path)
    assert (score_images(store / "cells" / "half", tmp_path, mpp=0.5).values[0, :, 3] == 1).all()
