"""bf16 is taken on a CPU only where it gives the features of fp32."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import dirl
from dirl.encoders.loading import load_encoder
from dirl.features.trial import agreement

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"


class Cancels(nn.Module):
    """Subtracts two large numbers that differ less than bf16 can tell."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 3))

    def forward(self, images: Tensor) -> Tensor:
        if torch.is_autocast_enabled("cpu"):
            return torch.randn(len(images), 8, generator=torch.Generator().manual_seed(0))
        return images.mean((2, 3)) @ self.weight.T


def test_the_agreement_is_that_of_the_two_precisions() -> None:
    encoder = load_encoder(ENCODER, device=torch.device("cpu"))
    assert 0.99 < agreement(encoder, 64, "model") <= 1.0001
    assert agreement(replace(encoder, model=Cancels()), 64, "model") < 0.9


@pytest.mark.parametrize(("cosine", "taken"), [(0.9995, "bf16"), (0.998, "fp32")])
def test_embed_takes_bf16_only_if_it_agrees(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cosine: float, taken: str
) -> None:
    monkeypatch.setattr("dirl.core.precision.cpu_has_bf16", lambda: True)
    monkeypatch.setattr("dirl.features.embed.agreement", lambda *_: cosine)
    made = dirl.embed(ENCODER, small_store, tmp_path / "f", baselines=False, device="cpu", quiet=True)
    assert made.card.config["precision"] == taken


def test_without_the_hardware_there_is_no_trial(
    small_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dirl.core.precision.cpu_has_bf16", lambda: False)
    monkeypatch.setattr("dirl.features.embed.agreement", lambda *_: pytest.fail("a trial"))
    made = dirl.embed(ENCODER, small_store, tmp_path / "f", baselines=False, device="cpu", quiet=True)
    assert made.card.config["precision"] == "fp32"
