"""Measures of whole attention matrices against their formulas, written down again slowly."""

from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor

from dirl.audit.full import distances, full_attention, measure_matrix, uniform_full
from dirl.encoders.attention import attention_rows

MODELS = {
    "vit_small_patch14_reg4_dinov2": 70,
    "vit_small_patch16_dinov3": 64,
    "vit_relpos_base_patch16_224": 64,
    "vit_base_patch16_siglip_224": 64,
}


def made(name: str) -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    size: dict[str, Any] = {"embed_dim": 48, "num_heads": 3, "depth": 3, "img_size": MODELS[name]}
    model = timm.create_model(name, num_classes=0, **size).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model, torch.randn(5, 3, MODELS[name], MODELS[name])


def matrices(model: Any, images: Tensor) -> np.ndarray:
    """Shape (t, l, a, n, n), by timm's unfused path."""
    seen: list[Tensor] = []
    modules = [m for m in model.blocks.modules() if hasattr(m, "fused_attn")]
    for module in modules:
        module.fused_attn = False
        module.attn_drop.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        model(images)
    return torch.stack(seen, dim=1).double().numpy()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("chunk", [200, 2**23])
def test_equal_their_formulas(name: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dirl.encoders.attention.CHUNK", chunk)
    model, images = made(name)
    found = full_attention(model, images)
    rows = attention_rows(model, images)
    full = matrices(model, images)
    prefix, (gh, gw) = model.num_prefix_tokens, rows.grid
    places = np.array([(i, j) for i in range(gh) for j in range(gw)])
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(-1))

    tiles, blocks, heads, n, _ = full.shape
    averaged = np.concatenate([full, full.mean(2, keepdims=True)], axis=2)
    among = averaged[..., prefix:, prefix:]
    among = among / among.sum(-1, keepdims=True)
    last = -1 if rows.query == "pooling" else 0
    expected = (among * apart).sum(-1).mean(-1)
    np.testing.assert_allclose(found.distance, expected[:, last:], rtol=1e-4)
    columns = among.sum(-2)
    np.testing.assert_allclose(found.sinks, (columns.max(-1) / columns.mean(-1))[:, last:], rtol=1e-4)
    assert found.distance.shape == (tiles, 1 if last else blocks, heads + 1)

    for tile in range(tiles):
        product = np.eye(n)
        for matrix in full[tile].mean(1):  # from the first block on, matrix by matrix
            product = (matrix + np.eye(n)) / 2 @ product
        np.testing.assert_allclose(product.sum(-1), 1)
        start = np.eye(n)[0]
        if rows.query == "mean patch":
            start = np.r_[np.zeros(prefix), np.full(n - prefix, 1 / (n - prefix))]
        elif rows.query == "pooling":
            start = rows.patches[tile, 0].mean(0).flatten().numpy()
        row = (start @ product)[prefix:]
        np.testing.assert_allclose(found.rollout[tile].flatten(), row / row.sum(), rtol=1e-4)


def test_uniform_attention() -> None:
    found = uniform_full(3, (4, 6))
    assert found.distance.shape == found.sinks.shape == (3, 1, 2) and found.rollout.shape == (3, 4, 6)
    apart = distances((4, 6))
    assert (
        apart[0, 1] == 1 and apart[0, 7] == pytest.approx(2**0.5) and apart[0, 23] == pytest.approx(34**0.5)
    )
    assert found.distance[0, 0, 0].item() == pytest.approx(apart.mean().item())
    assert (found.sinks == 1).all()


def test_a_planted_sink() -> None:
    """Every query, [CLS] too, gives half to token 5 and shares out the rest."""
    matrix = torch.full((1, 2, 9, 9), 0.5 / 9)
    matrix[..., 1 + 4] += 0.5
    row = torch.eye(9)[:1]
    _, sinks, carried = measure_matrix([(0, matrix)], distances((2, 4)), 1, row)
    column = (0.5 / 9 + 0.5) / (0.5 * 8 / 9 + 0.5)  # renormalised over the patches
    torch.testing.assert_close(sinks, torch.full((1, 3), 8 * column))
    torch.testing.assert_close(carried, row / 2 + matrix[:, 0, 0] / 2)
