"""Embedding: equal to the model itself, readable by others, resumable, and its choice of tiles."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import dirl.features.embed
import dirl.features.stream
from dirl.config import EmbedConfig
from dirl.core.card import note_change
from dirl.core.errors import ConfigError, EncoderError, StoreError
from dirl.encoders.loading import load_encoder, preprocess
from dirl.features.embed import embed
from dirl.features.feature_files import Features, read_features
from dirl.features.sources import SlideTiles
from dirl.store.colour import colour_histogram, colour_statistics
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles


@pytest.fixture(scope="module")
def made(tile_store: Path, encoder_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Features:
    out = tmp_path_factory.mktemp("out") / "features"
    return embed(str(encoder_run), tile_store, out, batch=4, device="cpu", quiet=True)


def test_equal_to_a_direct_forward(made: Features, tile_store: Path, encoder_run: Path) -> None:
    store, encoder = TileStore.open(tile_store), load_encoder(str(encoder_run))
    images = np.stack([store.image(i) for i in range(len(store))])
    with torch.inference_mode():
        ready = preprocess(encoder, torch.from_numpy(images).permute(0, 3, 1, 2))
        np.testing.assert_allclose(made.values, encoder.model(ready), atol=1e-5)
        untrained = encoder.randomised(0).model(ready)
    np.testing.assert_allclose(made.baselines["untrained"], untrained, atol=1e-5)
    assert np.abs(made.values - untrained.numpy()).max() > 0.1
    np.testing.assert_array_equal(
        made.baselines["colour_statistics"], np.stack([colour_statistics(one) for one in images])
    )
    np.testing.assert_array_equal(
        made.baselines["colour_histogram"], np.stack([colour_histogram(one) for one in images])
    )


def test_in_the_order_of_the_store_with_what_it_knows(made: Features, tile_store: Path) -> None:
    store = TileStore.open(tile_store)
    np.testing.assert_array_equal(made.tile_ids, store.tile_ids)
    np.testing.assert_array_equal(made.slide_ids, store.slide_ids)
    np.testing.assert_array_equal(made.labels, store.labels)
    assert (made.patient_ids == "").all() and made.ready_made.all()
    assert made.card.inputs["store"] == store.digest
    assert made.card.counts == {
        "tiles": 14,
        "slides": 2,
        "failed": 0,
    }


def test_the_files_are_as_clam_and_trident_read_them(made: Features) -> None:
    # CLAM: h5_files/SLIDE.h5 with both datasets. TRIDENT: every entry is a dataset that `[:]` reads.
    with h5py.File(made.path / "h5_files" / "pink.h5") as file:
        assert file["features"][:].shape == (9, 24) and file["features"].dtype == np.float32
        assert file["coords"][:].shape == (9, 2) and file["coords"].dtype == np.int64
        assert all(isinstance(entry, h5py.Dataset) and len(entry[:]) == 9 for entry in file.values())
        attributes = dict(file["coords"].attrs)
    expected = {
        "patch_size": 32,
        "patch_size_level0": 32,
        "level0_magnification": 20,
        "overlap": 0,
        "name": "pink",
    }
    assert {name: attributes[name] for name in expected} == expected


def test_a_second_run_does_nothing_and_another_is_refused(
    made: Features, tile_store: Path, encoder_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(dirl.features.embed, "embed_slides")
    again = embed(str(encoder_run), tile_store, made.path, quiet=True)
    np.testing.assert_array_equal(again.values, made.values)
    with pytest.raises(StoreError, match=r"made with other settings .*seed"):
        embed(str(encoder_run), tile_store, made.path, EmbedConfig(seed=1), quiet=True)


def test_baselines_of_the_same_tiles_and_architecture_are_copied(
    made: Features, tile_store: Path, encoder_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    narrower = tmp_path / "narrower"
    shutil.copytree(encoder_run, narrower)
    config = json.loads((narrower / "encoder" / "config.json").read_text())
    config["model_args"]["num_heads"] = 1  # the same weights, at random, by another forward pass
    (narrower / "encoder" / "config.json").write_text(json.dumps(config))
    others: list[tuple[Path, dict[str, Any]]] = [
        (narrower, {}),
        (encoder_run, {"tiles": 7}),
        (encoder_run, {"seed": 1}),
    ]
    for run, more in others:
        with pytest.raises(ConfigError, match="other tiles, or of an encoder of another architecture"):
            embed(str(run), tile_store, tmp_path / "no", EmbedConfig(**more), baselines=made.path, quiet=True)
    assert not (tmp_path / "no").exists()
    monkeypatch.setattr(dirl.features.stream, "colour_histogram", lambda image: pytest.fail("computed"))
    again = embed(
        str(encoder_run), tile_store, tmp_path / "out", baselines=made.path, device="cpu", quiet=True
    )
    np.testing.assert_allclose(again.values, made.values, atol=1e-5)
    for name, values in made.baselines.items():
        np.testing.assert_array_equal(again.baselines[name], values)


def test_only_the_slides_that_are_missing_are_done(
    made: Features, tile_store: Path, encoder_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "interrupted"
    shutil.copytree(made.path, out)
    (out / "h5_files" / "violet.h5").unlink()
    card = json.loads((out / "card.json").read_text())
    (out / "card.json").write_text(json.dumps(card | {"finished": None, "digest_of_card": None}))
    with pytest.raises(StoreError, match=r"unfinished.*dirl embed"):
        read_features(out)
    done = []
    attributes = dirl.features.embed._attributes

    def spy(tiles: SlideTiles, *rest: Any) -> dict[str, Any]:
        done.append(tiles.record.slide_id)
        return attributes(tiles, *rest)

    monkeypatch.setattr(dirl.features.embed, "_attributes", spy)
    resumed = embed(str(encoder_run), tile_store, out, batch=4, device="cpu", quiet=True)
    assert done == ["violet"]
    np.testing.assert_array_equal(resumed.values, made.values)


def test_workers_change_nothing(made: Features, tile_store: Path, encoder_run: Path, tmp_path: Path) -> None:
    other = embed(
        str(encoder_run), tile_store, tmp_path / "out", batch=4, workers=7, device="cpu", quiet=True
    )
    np.testing.assert_array_equal(other.values, made.values)
    np.testing.assert_array_equal(other.baselines["colour_histogram"], made.baselines["colour_histogram"])


def test_a_choice_takes_of_each_slide_in_proportion(tile_store: Path) -> None:
    store = TileStore.open(tile_store)
    chosen = subsample_tiles(store, 7, seed=3)
    assert Counter(store.slide_ids[chosen].tolist()) in ({"pink": 4, "violet": 3}, {"pink": 5, "violet": 2})
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, subsample_tiles(store, 7, seed=3))
    assert chosen.tolist() != subsample_tiles(store, 7, seed=4).tolist()
    assert set(subsample_tiles(store, 5, seed=3).tolist()) < set(chosen.tolist())
    assert len(subsample_tiles(store, 99, seed=0)) == len(subsample_tiles(store, None, seed=0)) == 14
    with pytest.raises(ConfigError, match="0 tiles"):
        subsample_tiles(store, 0, seed=0)


def test_a_choice_is_embedded_in_order(
    made: Features, tile_store: Path, encoder_run: Path, tmp_path: Path
) -> None:
    part = embed(
        str(encoder_run), tile_store, tmp_path / "part", EmbedConfig(tiles=6), device="cpu", quiet=True
    )
    chosen = subsample_tiles(TileStore.open(tile_store), 6, 0)
    np.testing.assert_array_equal(part.tile_ids, made.tile_ids[chosen])
    np.testing.assert_allclose(part.values, made.values[chosen], atol=1e-5)


def test_damage_and_nonsense(
    made: Features, tile_store: Path, encoder_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(made.path, broken)
    with h5py.File(broken / "h5_files" / "pink.h5", "a") as file:
        file.create_group("foreign")
    with pytest.raises(StoreError, match=r"pink.h5: damaged: its SHA-256.*remove h5_files/pink.h5, and run"):
        read_features(broken)
    note_change(broken, "h5_files/pink.h5")
    with pytest.raises(StoreError, match=r"pink.h5: damaged .*foreign"):
        read_features(broken)
    with h5py.File(broken / "h5_files" / "pink.h5", "a") as file:
        del file["foreign"], file["index"]
    note_change(broken, "h5_files/pink.h5")
    with pytest.raises(StoreError, match=r"pink.h5: damaged .*index"):
        read_features(broken)
    (broken / "h5_files" / "pink.h5").write_bytes(b"no HDF5")
    with pytest.raises(StoreError, match=r"pink.h5: damaged"):
        read_features(broken)
    (broken / "h5_files" / "pink.h5").unlink()
    with pytest.raises(StoreError, match=r"pink.h5: missing — run the same `dirl embed` again"):
        read_features(broken)
    with pytest.raises(StoreError, match="no such directory"):
        read_features(tmp_path / "nowhere")

    def nothing(encoder: object, images: torch.Tensor) -> torch.Tensor:
        return torch.full((len(images), 24), torch.nan)

    monkeypatch.setattr("dirl.features.pooling.embed_images", nothing)
    with pytest.raises(EncoderError, match="not finite"):
        embed(str(encoder_run), tile_store, tmp_path / "nan", device="cpu", quiet=True)
