"""Trust in maps: right values on maps whose answer is known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dirl.audit import trust as module
from dirl.audit.trust import correlation, joint_map, stability
from dirl.encoders.loading import load_encoder

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,patch_size=8,img_size=64"
FREE = ENCODER + ",dynamic_img_size=true"


def attended(monkeypatch: pytest.MonkeyPatch, rule: Callable[[Tensor], Tensor]) -> None:
    """Let an encoder attend by a rule: from an image (3, h, w) to a map."""
    monkeypatch.setattr(module, "_attend", lambda encoder: rule)


def darkness(image: Tensor) -> Tensor:
    blocks = 255 - image.float().mean(0)
    return blocks.unfold(0, 8, 8).unfold(1, 8, 8).mean((2, 3))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 64, 64), dtype=np.uint8))


def test_a_map_that_moves_with_the_tissue_is_stable(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    attended(monkeypatch, darkness)
    found = stability(load_encoder(FREE, device=torch.device("cpu")), image, darkness(image), 0)
    assert found["flip"] == pytest.approx(1) and found["rotation"] == pytest.approx(1)
    assert found["crop"] == pytest.approx(1)
    assert 0.5 < found["stain"] < 1


def test_a_map_of_the_place_alone_is_not(image: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    ramp = torch.arange(64.0).view(8, 8)  # grows to the right, and eight times as fast downwards

    attended(monkeypatch, lambda image: ramp[: image.shape[1] // 8, : image.shape[2] // 8])
    found = stability(load_encoder(FREE, device=torch.device("cpu")), image, ramp, 0)
    assert found["stain"] == pytest.approx(1)
    # With variances 1 (right) and 64 (down): a flip turns the sign of the first.
    assert found["flip"] == pytest.approx((64 - 1) / 65)
    assert found["rotation"] == pytest.approx(0, abs=1e-6)


def test_an_encoder_of_a_fixed_size_sees_the_crop_enlarged(image: Tensor) -> None:
    encoder = load_encoder(ENCODER, device=torch.device("cpu"))
    assert encoder.input_px == 64
    found = stability(encoder, image, darkness(image), 0)
    assert set(found) == {"flip", "rotation", "stain", "crop"} and all(
        -1 <= one <= 1 for one in found.values()
    )


@settings(max_examples=30)
@given(seed=st.integers(0, 99), side=st.integers(2, 9))
def test_the_correlation_is_that_of_numpy(seed: int, side: int) -> None:
    generator = np.random.default_rng(seed)
    one, other = generator.random((2, side, side)).round(1)
    expected = np.corrcoef(one.ravel(), other.ravel())[0, 1] if one.std() and other.std() else np.nan
    assert correlation(*map(torch.from_numpy, (one, other))) == pytest.approx(expected, nan_ok=True, abs=1e-9)


def test_the_joint_map_is_the_mean_of_the_heads() -> None:
    rows = torch.rand(3, 4, 4)
    torch.testing.assert_close(joint_map(rows), rows.mean(0) / rows.mean(0).sum())
