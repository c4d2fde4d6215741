"""Features as CLAM and TRIDENT lay them out, and files that are none."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from dirl.core.errors import StoreError
from dirl.features.external import read_external


def write(folder: Path, slide: str, **arrays: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with h5py.File(folder / f"{slide}.h5", "w") as file:
        for name, values in arrays.items():
            file[name] = values


@pytest.mark.parametrize("folder", ["f", "f/h5_files"])
def test_slides_by_name_tiles_by_place(folder: str, tmp_path: Path) -> None:
    write(tmp_path / folder, "b", features=np.ones((1, 3), np.float16), coords=np.array([[512, 0]]))
    write(tmp_path / folder, "a", features=np.zeros((2, 3)), coords=np.array([[0, 256], [256, 0]]))
    found = read_external(tmp_path / "f")
    assert found.tile_ids.tolist() == ["a/0_256", "a/256_0", "b/512_0"]
    assert found.slide_ids.tolist() == ["a", "a", "b"]
    assert found.values.tolist() == [[0] * 3, [0] * 3, [1] * 3] and found.values.dtype == np.float32
    assert (found.patient_ids == "").all() and (found.labels == "").all() and not found.ready_made.any()
    assert not found.baselines and found.hashes is None
    before = found.card.digest
    write(tmp_path / folder, "b", features=np.full((1, 3), 2.0), coords=np.array([[512, 0]]))
    assert read_external(tmp_path / "f").card.digest != before


GOOD, PLACES = np.ones((2, 3)), np.array([[0, 0], [0, 256]])


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"features": GOOD}, r"b.h5: damaged .*coords"),
        (
            {"features": GOOD, "coords": PLACES[:1]},
            r"b.h5: features of shape \(2, 3\) and coords of shape \(1",
        ),
        ({"features": GOOD[0], "coords": PLACES}, r"b.h5: features of shape \(3,\)"),
        ({"features": GOOD[:, :2], "coords": PLACES}, r"b.h5: features of width 2, but .* have width 3"),
        (
            {"features": GOOD * np.nan, "coords": PLACES},
            r"features of 2 tiles are not finite, first of b/0_0",
        ),
        ({"features": GOOD, "coords": PLACES * 0}, r"has tile b/0_0 twice"),
        (
            {"features": GOOD, "coords": PLACES, "ready_made": GOOD[:, 0]},
            r"b.h5: part of an output of `dirl embed`",
        ),
    ],
)
def test_nonsense_is_named(arrays: dict[str, np.ndarray], reason: str, tmp_path: Path) -> None:
    write(tmp_path, "a", features=GOOD, coords=PLACES)
    write(tmp_path, "b", **arrays)
    with pytest.raises(StoreError, match=reason):
        read_external(tmp_path)


def test_no_features(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no features here"):
        read_external(tmp_path)
    with pytest.raises(StoreError, match="no such folder"):
        read_external(tmp_path / "nowhere")
    (tmp_path / "a.h5").write_bytes(b"no HDF5")
    with pytest.raises(StoreError, match=r"a.h5: damaged"):
        read_external(tmp_path)
