"""Controls that use no cells: regions by colour, and a penalty on sparse attention."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dirl.config import DenseConfig, EncoderConfig, PretrainRecipe, make
from dirl.core.errors import ConfigError
from dirl.encoders.vit import ViT
from dirl.pretrain.read_run import read_metrics
from dirl.pretrain.run import pretrain
from dirl.prior.dense_term import make_dense_term
from dirl.prior.regions import colour_ids
from dirl.prior.source import Colour
from dirl.prior.sparsity import sparsity_penalty
from dirl.store.dataset import TileStore


def small_vit(depth: int, heads: int) -> ViT:
    config = EncoderConfig(name="vit_tiny_patch16_224", width=48, depth=depth, heads=heads, patch_px=8)
    return ViT(config, 32).eval()


def test_colour_cuts_the_tissue_into_thirds_by_red() -> None:
    rgb = np.full((48, 48, 3), 200, np.uint8)
    rgb[:, :16, 0], rgb[:, 16:32, 0] = 40, 120
    tissue = np.ones((48, 48), bool)
    tissue[:8] = False
    ids = colour_ids(rgb, tissue, mpp=1.0)
    assert (ids[:8] == 0).all()
    for region, column in enumerate((8, 24, 40), 1):
        assert (ids[8:, column] == region).all()


def test_thirds_of_noise_are_equal_and_glass_alone_has_none() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    shares = np.bincount(colour_ids(rgb, np.ones((64, 64), bool), 0.5).ravel(), minlength=4) / 64**2
    np.testing.assert_allclose(shares, [0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)
    assert not colour_ids(rgb, np.zeros((64, 64), bool), 0.5).any()


def test_colour_needs_no_cells_and_refuses_what_would_change_them(small_store: Path) -> None:
    tiles = TileStore.open(small_store)
    term = make_dense_term(DenseConfig(regions="colour"), tiles, "no such cells", 0)
    assert term is not None and isinstance(term.source, Colour)
    assert term.source.count == 3 and set(np.unique(term.source.ids(0))) <= {0, 1, 2, 3}
    for wrong in (
        {"control": "shuffled"},
        {"noise": {"kind": "drop", "strength": 0.5}},
        {"match": "instance"},
    ):
        with pytest.raises(ConfigError):
            make(DenseConfig, {"regions": "colour", **wrong})


@pytest.mark.parametrize("of", ["heads", "joint"])
def test_the_penalty_is_one_minus_the_normalised_entropy(of: Literal["heads", "joint"]) -> None:
    torch.manual_seed(0)
    p = torch.rand(3, 4, 9).softmax(-1)
    rows = p.mean(1, keepdim=True) if of == "joint" else p
    expected = 1 - np.mean(
        [-(r * np.log(r)).sum() / math.log(9) for r in rows.double().numpy().reshape(-1, 9)]
    )
    assert sparsity_penalty(p, of).item() == pytest.approx(expected, abs=1e-6)
    assert sparsity_penalty(torch.full((1, 2, 9), 1 / 9), of).item() == pytest.approx(0, abs=1e-6)


def test_joint_is_per_head_plus_the_divergence_of_the_heads() -> None:
    torch.manual_seed(0)
    p = torch.randn(2, 3, 16).mul(3).softmax(-1)
    mean = p.mean(1, keepdim=True)
    divergence = (p * (p / mean).log()).sum(-1).mean() / math.log(16)
    difference = sparsity_penalty(p, "heads") - sparsity_penalty(p, "joint")
    torch.testing.assert_close(difference, divergence)


def test_the_attention_of_the_encoder_is_that_of_the_class_token() -> None:
    torch.manual_seed(0)
    encoder = ViT(
        EncoderConfig(name="vit_tiny_patch16_224", width=48, depth=2, heads=3, patch_px=8), 32
    ).eval()
    images = torch.rand(2, 3, 32, 32)
    seen: list[torch.Tensor] = []
    attn = encoder.vit.blocks[-1].attn
    attn.fused_attn = False
    attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    plain = encoder(images)
    row = seen[0][:, :, 0, 1:]
    output = encoder(images, attention=True)
    assert output.regions is None and plain.attention is None
    torch.testing.assert_close(output.attention, row / row.sum(-1, keepdim=True))
    torch.testing.assert_close(output.cls, plain.cls)


def test_half_of_the_heads_keep_the_attention_of_the_class_token() -> None:
    torch.manual_seed(0)
    encoder = ViT(
        EncoderConfig(name="vit_tiny_patch16_224", width=48, depth=1, heads=4, patch_px=8), 32
    ).eval()
    images = torch.rand(2, 3, 32, 32)
    coverage = F.one_hot(torch.arange(16) % 2, 2).T.reshape(1, 2, 4, 4).expand(2, -1, -1, -1).float()
    whole = encoder(images, torch.ones(2, 1, 4, 4)).regions
    encoder.region_heads = 0
    output = encoder(images, coverage)
    torch.testing.assert_close(output.regions, output.cls[:, None].expand(-1, 2, -1))
    encoder.region_heads = 4
    assert not torch.allclose(encoder(images, torch.ones(2, 1, 4, 4)).regions, output.cls[:, None], atol=1e-3)
    torch.testing.assert_close(encoder(images, torch.ones(2, 1, 4, 4)).regions, whole)
    with pytest.raises(ConfigError, match="heads: half makes rows of heads, which extract: pool does not"):
        make(DenseConfig, {"heads": "half", "extract": "pool"})


@pytest.mark.parametrize(
    ("changes", "role"),
    [
        ({"entropy": {"weight": 4.0, "of": "heads"}, "dense": {"weight": 0}}, "control"),
        ({"dense": {"regions": "colour"}}, "control"),
        ({"dense": {"heads": "half"}}, "dirl"),
    ],
)
def test_each_trains(
    small_store: Path,
    recipe: PretrainRecipe,
    tmp_path: Path,
    changes: dict[str, dict[str, object]],
    role: str,
) -> None:
    values = recipe.model_dump()
    for key, value in changes.items():
        values[key] = values[key] | value
    made = make(PretrainRecipe, values)
    assert made.role == role
    pretrain(made, small_store, tmp_path / "run", device="cpu", quiet=True)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert ("loss/entropy" in rows[-1]) == ("entropy" in changes)
    assert ("loss/dense" in rows[-1]) == (made.dense.weight > 0)


def test_the_penalty_makes_attention_more_even(
    small_store: Path, recipe: PretrainRecipe, tmp_path: Path
) -> None:
    values = recipe.model_dump()
    values |= {"entropy": {"weight": 20.0, "of": "heads"}, "dense": values["dense"] | {"weight": 0}}
    values |= {"steps": 12, "log_every_steps": 1}
    pretrain(make(PretrainRecipe, values), small_store, tmp_path / "run", device="cpu", quiet=True)
    penalty = [row["loss/entropy"] for row in read_metrics(tmp_path / "run" / "metrics.csv")]
    assert penalty[-1] < penalty[0]
