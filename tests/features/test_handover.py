"""Features in the layouts of other tools, beside those of `dirl embed`, and as complete as these."""

import importlib.util
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dirl.check import State, check
from dirl.config import EmbedConfig, Pool, Tool
from dirl.core.card import read_card
from dirl.core.errors import ConfigError, StoreError
from dirl.features import handover, to_stamp
from dirl.features.embed import embed
from dirl.features.external import read_external
from dirl.features.feature_files import Features, read_features
from dirl.features.handover import hand_over
from dirl.features.tool_name import tool_name
from dirl.store.dataset import TileStore

PER_SLIDE = (Tool.CLAM, Tool.TRIDENT, Tool.STAMP)


@pytest.fixture
def made(small_store: Path, encoder_run: Path, tmp_path: Path) -> Features:
    """Features of a slide's tiles of 64 px at 0.5 µm/px."""
    return embed(str(encoder_run), small_store, tmp_path / "out", device="cpu", quiet=True)


@pytest.fixture
def ready_made(tile_store: Path, encoder_run: Path, tmp_path: Path) -> Features:
    return embed(str(encoder_run), tile_store, tmp_path / "ready", device="cpu", quiet=True)


def test_clam(made: Features) -> None:
    assert hand_over(made.path, ["clam"], quiet=True) == {Tool.CLAM: made.path / "pt_files"}
    # As CLAM's dataset class reads a slide, without and with `load_from_h5(True)`.
    tensor = torch.load(made.path / "pt_files" / "slide.pt", weights_only=True)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), made.values)
    with h5py.File(made.path / "h5_files" / "slide.h5") as file:
        np.testing.assert_array_equal(file["features"][:], made.values)
        np.testing.assert_array_equal(file["coords"][:], made.coords)


def test_trident(made: Features, small_store: Path, encoder_run: Path) -> None:
    name = f"features_{encoder_run.name}"
    folder = made.path / "20x_64px_0px_overlap"
    assert hand_over(made.path, ["trident"], quiet=True) == {Tool.TRIDENT: folder / name}
    record = TileStore.open(small_store).slides["slide"]
    with (
        h5py.File(folder / name / "slide.h5") as file,
        h5py.File(folder / "patches/slide_patches.h5") as places,
    ):
        assert file["features"].dtype == np.float32 and file["coords"].dtype == np.int64
        np.testing.assert_array_equal(file["features"][:], made.values)
        assert list(places) == ["coords"]
        for of in (file, places):
            np.testing.assert_array_equal(of["coords"][:], made.coords)
            assert dict(of["coords"].attrs) == {
                "name": "slide",
                "patch_size": 64,
                "patch_size_level0": round(64 * 0.5 / record.mpp),
                "level0_magnification": 10 / record.mpp,
                "target_magnification": 20,
                "overlap": 0,
                "level0_width": record.size_px[0],
                "level0_height": record.size_px[1],
                "savetodir": folder.name,
            }
        assert (
            file["features"].attrs["name"] == "slide"
            and file["features"].attrs["encoder"] == encoder_run.name
        )
    # dirl reads it as it reads TRIDENT's own.
    np.testing.assert_array_equal(read_external(folder / name).values, made.values)


def test_stamp(made: Features, small_store: Path, encoder_run: Path) -> None:
    folder = made.path / "stamp" / encoder_run.name
    assert hand_over(made.path, ["stamp"], quiet=True) == {Tool.STAMP: folder}
    mpp = TileStore.open(small_store).slides["slide"].mpp
    with h5py.File(folder / "slide.h5") as file:
        assert file["feats"].dtype == np.float16 and file["coords"].dtype == np.float32
        np.testing.assert_allclose(file["feats"][:], made.values, rtol=2**-10, atol=2**-14)
        np.testing.assert_allclose(file["coords"][:], made.coords * mpp, rtol=1e-6)
        assert dict(file.attrs) == {
            "stamp_version": "2.1.0",
            "extractor": encoder_run.name,
            "unit": "um",
            "tile_size_um": 32.0,
            "tile_size_px": 64,
            "feat_type": "tile",
        }


def test_features_too_large_for_half_precision_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"too large for STAMP's float16.*--to trident"):
        to_stamp._half(np.array([[1, -7e4]], np.float32), "slide")
    assert to_stamp._half(np.zeros((0, 3), np.float32), "slide").shape == (0, 3)


def test_anndata(ready_made: Features, encoder_run: Path) -> None:
    anndata = pytest.importorskip("anndata")
    path = ready_made.path / "features.h5ad"
    assert hand_over(ready_made.path, ["anndata"]) == {Tool.ANNDATA: path}
    found = anndata.read_h5ad(path)
    np.testing.assert_array_equal(found.X, ready_made.values)
    assert found.obs.index.name == "tile_id" and found.obs_names.tolist() == ready_made.tile_ids.tolist()
    assert found.obs["slide_id"].tolist() == ready_made.slide_ids.tolist()
    assert found.obs["label"].tolist() == ready_made.labels.tolist() and found.obs["patient_id"].isna().all()
    np.testing.assert_array_equal(found.obsm["spatial"], ready_made.coords)
    np.testing.assert_array_equal(found.obs[["x", "y"]], ready_made.coords)
    assert found.uns["encoder"] == str(encoder_run)
    assert json.loads(found.uns["card"])["inputs"] == dict(ready_made.card.inputs)
    assert check(ready_made.path, quiet=True).whole


def test_without_the_extra(made: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--to anndata: AnnData is not installed .*dirl\[anndata\]"):
        hand_over(made.path, ["clam", "anndata"], quiet=True)
    assert not (made.path / "pt_files").exists()


def test_files_are_checked_kept_and_repaired(made: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_over(made.path, PER_SLIDE, quiet=True)
    assert check(made.path, quiet=True).whole
    np.testing.assert_array_equal(read_features(made.path).values, made.values)
    there = {name: (made.path / name).read_bytes() for name in read_card(made.path).files}
    damaged = made.path / "pt_files" / "slide.pt"
    damaged.write_bytes(b"damaged")
    found = check(made.path, quiet=True).findings
    assert [(one.what, one.path) for one in found] == [(State.DAMAGED, damaged)]
    missing = made.path / "stamp" / tool_name(made.card.config["encoder"], "model", {}) / "slide.h5"
    missing.unlink()

    written: list[str] = []
    write = handover._write

    def noted(features: Path, name: str, content: bytes | memoryview) -> None:
        written.append(name)
        write(features, name, content)

    monkeypatch.setattr(handover, "_write", noted)
    hand_over(made.path, PER_SLIDE, quiet=True)
    assert written == ["pt_files/slide.pt", missing.relative_to(made.path).as_posix()]
    assert {name: (made.path / name).read_bytes() for name in read_card(made.path).files} == there
    assert check(made.path, quiet=True).whole


def test_an_interrupted_call_continues(made: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    write = handover._write

    def killed(features: Path, name: str, content: bytes | memoryview) -> None:
        if name.endswith(".h5"):
            raise KeyboardInterrupt
        write(features, name, content)

    with monkeypatch.context() as patch:
        patch.setattr(handover, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            hand_over(made.path, PER_SLIDE, quiet=True)
    before = (made.path / "pt_files" / "slide.pt").stat().st_mtime_ns
    hand_over(made.path, PER_SLIDE, quiet=True)
    assert (made.path / "pt_files" / "slide.pt").stat().st_mtime_ns == before
    assert check(made.path, quiet=True).whole


def test_embed_goes_on_beside_what_was_handed_over(
    made: Features, small_store: Path, encoder_run: Path
) -> None:
    hand_over(made.path, PER_SLIDE, quiet=True)
    (made.path / "h5_files" / "slide.h5").unlink()
    embed(str(encoder_run), small_store, made.path, device="cpu", quiet=True)
    assert check(made.path, quiet=True).whole and (made.path / "pt_files" / "slide.pt").exists()


@pytest.mark.parametrize("tool", [Tool.TRIDENT, Tool.STAMP])
def test_ready_made_tiles_have_no_places(ready_made: Features, tool: Tool) -> None:
    with pytest.raises(ConfigError, match=f"ready-made tiles .*--to {tool}|--to {tool}.* ready-made tiles"):
        hand_over(ready_made.path, [tool], quiet=True)
    assert check(ready_made.path, quiet=True).whole
    hand_over(ready_made.path, ["clam"], quiet=True)
    both = [torch.load(file, weights_only=True) for file in (ready_made.path / "pt_files").iterdir()]
    assert sum(len(one) for one in both) == len(ready_made)


def test_unknown_tools_and_other_folders_are_refused(made: Features, small_store: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such tool.*clam, trident, stamp, anndata"):
        hand_over(made.path, ["qupath"])
    with pytest.raises(StoreError, match="not by `dirl embed`"):
        hand_over(small_store, ["clam"])


@pytest.mark.parametrize(
    ("encoder", "pool", "name"),
    [
        ("uni", "model", "uni_v1"),
        ("uni,weights=/there/pytorch_model.bin", "model", "uni_v1"),
        ("uni,weights=random", "model", "uni-random"),
        ("uni", "mean", "uni-mean"),
        ("h-optimus-0", "model", "hoptimus0"),
        ("kaiko-vits8", "model", "kaiko-vits8"),
        ("runs/dirl/", "model", "dirl"),
        ("runs/dirl", "regions", "dirl-regions"),
        ("timm:vit_small_patch16_224,weights=random", "model", "vit_small_patch16_224-random"),
        ("timm:hf-hub:owner/name", "model", "name"),
        ("hf:owner/my model", "model", "my-model"),
        ("..", "model", "encoder"),
    ],
)
def test_names_of_encoders(encoder: str, pool: Pool, name: str) -> None:
    assert tool_name(encoder, pool, handover.LAYOUTS[Tool.TRIDENT].encoders) == name


def test_stamp_does_not_take_features_for_others() -> None:
    """STAMP's encoders of slides ask for features by name: its `virchow2` is the class token alone."""
    assert tool_name("virchow2", "model", to_stamp.ENCODERS) == "virchow2-full"
    assert tool_name("virchow", "model", to_stamp.ENCODERS) == "virchow-full"


@given(st.text(max_size=30), st.sampled_from(["model", "mean", "regions"]))
def test_names_fit_into_every_file_system(encoder: str, pool: Pool) -> None:
    name = tool_name(encoder, pool, {})
    assert name.strip(".-") == name != "" and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)


def test_pools_have_folders_of_their_own(small_store: Path, encoder_run: Path, tmp_path: Path) -> None:
    config = EmbedConfig(pool="mean")
    features = embed(str(encoder_run), small_store, tmp_path / "mean", config, device="cpu", quiet=True)
    assert hand_over(features.path, ["stamp"], quiet=True)[Tool.STAMP].name == f"{encoder_run.name}-mean"
