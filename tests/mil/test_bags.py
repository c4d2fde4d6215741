"""Bags from our own features and from those of other tools, and files that are none."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dirl.evaluate.mil.bags
from dirl.core.card import finish, new_card, note_change
from dirl.core.claim import claim
from dirl.core.errors import StoreError
from dirl.evaluate.mil.bags import read_bags
from dirl.features.baselines import Baseline
from dirl.features.feature_files import write_rows


def embedded(root, done=True):
    """Two slides, as `dirl embed` writes them."""
    card = claim(root, new_card("embed", {"encoder": "mine"}, {"store": "s"}))
    for slide, count in (("a", 3), ("b", 2)):
        values = np.arange(4.0 * count).reshape(count, 4).astype(np.float32)
        baselines: dict[str, NDArray[Any]] = dict.fromkeys(Baseline, values[:, :2])
        write_rows(root / "baselines" / f"{slide}.h5", baselines)
        rows: dict[str, NDArray[Any]] = {
            "features": values,
            "coords": np.arange(2 * count).reshape(count, 2),
            "index": np.arange(count),
            "ready_made": np.zeros(count, bool),
            "hash": np.zeros(count, np.uint64),
            "tile_id": np.array([f"{slide}/{i}" for i in range(count)]),
            "slide_id": np.full(count, slide),
            "patient_id": np.full(count, f"patient {slide}"),
            "label": np.full(count, ""),
        }
        write_rows(root / "h5_files" / f"{slide}.h5", rows)
    if done:
        finish(root, card, {"tiles": 5})
    return root


def test_what_embed_wrote(tmp_path):
    bags = read_bags(embedded(tmp_path / "f"), quiet=True)
    assert bags.slide_ids.tolist() == ["a", "b"] and bags.sizes.tolist() == [3, 2] and len(bags) == 2
    assert bags.patient_ids.tolist() == ["patient a", "patient b"] and bags.encoder == "mine"
    assert bags.sets == ("features", "untrained", "colour_statistics", "colour_histogram")
    assert bags.values(1).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert bags.values(0, "untrained").shape == (3, 2)
    places = bags.places(1)
    assert places["tile_id"].tolist() == ["b/0", "b/1"]
    assert places["x"].tolist() == [0, 2] and places["y"].tolist() == [1, 3]


@pytest.mark.parametrize("folder", ["bags", "bags/h5_files"])
def test_files_of_other_tools(write_bag, tmp_path, folder):
    write_bag("x", np.ones((4, 3)), folder, coords=np.zeros((4, 2)))
    write_bag("y", np.full((1, 3), np.nan), folder)
    bags = read_bags(tmp_path / "bags", quiet=True)
    assert bags.sets == ("features",) and bags.finite.tolist() == [True, False] and bags.encoder == ""
    assert bags.places(1) == {}
    again = read_bags(tmp_path / "bags", quiet=True)
    write_bag("x", np.zeros((4, 3)), folder)
    assert bags.digest == again.digest != read_bags(tmp_path / "bags", quiet=True).digest


def test_bags_beyond_the_memory_are_read_again(write_bag, monkeypatch):
    folder = write_bag("x", np.ones((4, 3)))
    write_bag("y", np.zeros((4, 3)))
    monkeypatch.setattr(dirl.evaluate.mil.bags, "HELD_BYTES", 48)
    bags = read_bags(folder, quiet=True)
    assert bags.values(0) is bags.values(0)
    assert bags.values(1) is not bags.values(1) and (bags.values(1) == 0).all()


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"values": np.ones(4)}, r"damaged \(features of shape \(4,\)"),
        ({"values": np.ones((4, 3)), "coords": np.zeros((3, 2))}, r"coords of shape \(3, 2\) for 4 tiles"),
        ({"values": np.ones((4, 3)), "coords": np.zeros((4, 4))}, r"coords of shape \(4, 4\) for 4 tiles"),
        ({"values": np.ones((2, 3)), "tile_id": np.array([b"t", b"t"])}, "1 different tile_id for 2 tiles"),
        ({"values": np.ones((2, 3)), "tile_id": np.arange(2)}, r"damaged"),
        ({"values": np.ones((2, 3)), "patient_id": ["p", "q"]}, "its tiles are of 2 patients"),
        ({"values": np.ones((2, 4))}, "features of width 4, but those of a.h5 have width 3"),
    ],
)
def test_damaged_files(write_bag, datasets, message):
    write_bag("a", np.ones((2, 3)))
    folder = write_bag("z", **datasets)
    with pytest.raises(StoreError, match=message) as raised:
        read_bags(folder, quiet=True)
    assert "z.h5" in str(raised.value)


def test_no_features(tmp_path):
    with pytest.raises(StoreError, match="no such folder"):
        read_bags(tmp_path / "nowhere", quiet=True)
    with pytest.raises(StoreError, match="no features here"):
        read_bags(tmp_path, quiet=True)
    (tmp_path / "a.h5").write_text("text")
    with pytest.raises(StoreError, match=r"a.h5: damaged"):
        read_bags(tmp_path, quiet=True)
    with pytest.raises(StoreError, match="unfinished"):
        read_bags(embedded(tmp_path / "f", done=False), quiet=True)
    root = embedded(tmp_path / "g")
    with pytest.raises(StoreError, match=r"a\.h5: part of an output of `dirl embed`"):
        read_bags(root / "h5_files", quiet=True)
    write_rows(root / "baselines" / "a.h5", {"untrained": np.ones((1, 2))})
    note_change(root, "baselines/a.h5")
    with pytest.raises(StoreError, match=r"1 rows for the 3 tiles of a\.h5"):
        read_bags(root, quiet=True).values(0, "untrained")
