"""Pooling of tokens: against sums written out, and in what `dirl embed` writes."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from dirl.config import EmbedConfig, Pool, make
from dirl.core.errors import ConfigError, EncoderError, StoreError
from dirl.core.precision import choose_precision
from dirl.encoders.loading import load_encoder, preprocess
from dirl.features.embed import embed
from dirl.features.pooling import embed_pooled
from dirl.store.dataset import TileStore

OPTIONS = "weights=random,img_size=32,patch_size=8,embed_dim=24,depth=2,num_heads=2,dynamic_img_size=true"
VIT = f"timm:vit_tiny_patch16_224,{OPTIONS}"


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("spec", [VIT, f"{VIT},reg_tokens=3", f"{VIT},class_token=false,global_pool=avg"])
def test_by_hand(spec: str, images: torch.Tensor) -> None:
    encoder = load_encoder(spec)
    regions = torch.zeros(3, 32, 32, dtype=torch.uint8)
    regions[0, :8, :4], regions[0, 8:16] = 1, 2  # half of one token; a whole row of tokens
    regions[1] = 2  # no nucleus
    model: Any = encoder.model
    with torch.inference_mode():
        tokens = model.forward_features(preprocess(encoder, images))[:, -16:]
        norm = getattr(model, "fc_norm", torch.nn.Identity())
        torch.testing.assert_close(embed_pooled(encoder, images, pool="mean"), norm(tokens.mean(1)))
        found = embed_pooled(encoder, images, regions, pool="regions")
        torch.testing.assert_close(found[0], torch.cat([norm(tokens[0, 0]), norm(tokens[0, 4:8].mean(0))]))
        torch.testing.assert_close(found[1], torch.cat([torch.zeros(24), norm(tokens[1].mean(0))]))
        assert (found[2] == 0).all()


def test_a_model_that_averages_is_pooled_as_it_does_itself(images: torch.Tensor) -> None:
    encoder = load_encoder(f"{VIT},global_pool=avg")
    norm: Any = encoder.model.fc_norm
    norm.weight.data.uniform_(0.5, 2)
    torch.testing.assert_close(
        embed_pooled(encoder, images, pool="mean"), embed_pooled(encoder, images, pool="model")
    )


def test_models_without_a_token_for_each_patch_are_refused(tmp_path: Path, small_store: Path) -> None:
    spec = "timm:swin_tiny_patch4_window7_224,weights=random,embed_dim=24"
    with pytest.raises(EncoderError, match=r"SwinTransformer has not one token for each .*--pool model"):
        embed(spec, small_store, tmp_path / "o", EmbedConfig(pool="mean"), device="cpu", quiet=True)
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("pool", ["mean", "regions"])
def test_embedded_in_the_order_of_the_store_and_the_baseline_alike(
    pool: Pool, small_store: Path, encoder_run: Path, tmp_path: Path
) -> None:
    made = embed(
        str(encoder_run),
        small_store,
        tmp_path / "o",
        EmbedConfig(pool=pool),
        batch=3,
        device="cpu",
        quiet=True,
    )
    store, encoder = TileStore.open(small_store), load_encoder(str(encoder_run))
    tiles = range(len(store))
    pixels = torch.from_numpy(np.stack([store.image(i) for i in tiles])).permute(0, 3, 1, 2)
    cells = store.cells("hematoxylin")
    regions = torch.from_numpy(np.stack([cells.regions(i) for i in tiles])) if pool == "regions" else None
    np.testing.assert_allclose(
        made.values, embed_pooled(encoder, pixels, regions, pool=pool).numpy(), atol=1e-5
    )
    baseline = embed_pooled(encoder.randomised(0), pixels, regions, pool=pool)
    np.testing.assert_allclose(made.baselines["untrained"], baseline, atol=1e-5)
    assert made.values.shape[1] == (48 if pool == "regions" else 24)
    assert made.card.config["pool"] == pool
    assert ("cells" in made.card.inputs) == (pool == "regions") == ("cells" in made.card.config)
    with h5py.File(next((tmp_path / "o" / "h5_files").glob("*.h5"))) as file:
        assert file["coords"].attrs["pool"] == pool
    with pytest.raises(StoreError, match=f"pool {pool} there, model now"):
        embed(str(encoder_run), small_store, tmp_path / "o", device="cpu", quiet=True)


@pytest.mark.parametrize("pool", ["model", "mean", "regions"])
def test_bf16_points_where_fp32_does(pool: Pool, small_store: Path, tmp_path: Path) -> None:
    spec = f"{VIT},embed_dim=96,depth=6,num_heads=3"
    fine, coarse = (
        embed(
            spec,
            small_store,
            tmp_path / precision,
            EmbedConfig(pool=pool, precision=precision),
            device="cpu",
            quiet=True,
        )
        for precision in ("fp32", "bf16")
    )
    assert coarse.values.dtype == np.float32 and not np.array_equal(fine.values, coarse.values)
    sets = (fine.values, coarse.values), (fine.baselines["untrained"], coarse.baselines["untrained"])
    for one, other in sets:
        cosines = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
        assert cosines.mean() > 0.999
    assert coarse.card.config["precision"] == "bf16"
    with h5py.File(next((tmp_path / "bf16" / "h5_files").glob("*.h5"))) as file:
        assert file["coords"].attrs["precision"] == "bf16"


def test_auto_is_bf16_where_a_cpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr("dirl.core.precision.cpu_has_bf16", lambda has=has: has)
        assert choose_precision("auto", torch.device("cpu")) == ("bf16" if has else "fp32")
    assert choose_precision("bf16", torch.device("cpu")) == "bf16"


def test_auto_is_bf16_where_a_gpu_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has)
        assert choose_precision("auto", torch.device("cuda")) == ("bf16" if has else "fp32")


def test_nonsense(tile_store: Path, encoder_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"pool: .*'regions' \(got 'max'\)"):
        make(EmbedConfig, {"pool": "max"})
    with pytest.raises(ConfigError, match=r"precision: .*'bf16' .*got 'fp8'"):
        make(EmbedConfig, {"precision": "fp8"})
    with pytest.raises(StoreError, match=r"no cells of hematoxylin.*dirl cells"):
        embed(str(encoder_run), tile_store, tmp_path / "o", EmbedConfig(pool="regions"), quiet=True)
    assert not (tmp_path / "o").exists()
