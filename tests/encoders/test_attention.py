"""The intercepted [CLS] row is the explicit softmax's, or there is an error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import timm
import torch
from timm.layers import SwiGLUPacked
from torch import Tensor, nn

from dirl.core.errors import EncoderError
from dirl.encoders.attention import AttentionRows, attention_rows
from tests.known import known

# Name, and what makes it small; patch sizes, prefix tokens and pooling are each family's own.
SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 5.33334}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_small_patch16_224": {"img_size": 64},
    "deit3_small_patch16_224": {"img_size": 64},
    "vit_small_patch14_reg4_dinov2": {"img_size": 70},
    "vit_small_patch16_dinov3": {"img_size": 64},
    "vit_small_patch16_dinov3_qkvb": {"img_size": 64},
    "eva02_tiny_patch14_224": {"img_size": 70},
    "eva_giant_patch14_224": {"img_size": 70},
    "vit_small_patch16_rope_224": {"img_size": 64},
    "vit_small_patch16_rope_mixed_ape_224": {"img_size": 64},
    "beit_base_patch16_224": {"img_size": 64},
    "vit_relpos_base_patch16_clsgap_224": {"img_size": 64},
    "deit_tiny_distilled_patch16_224": {"img_size": 64},
    "vit_base_patch16_siglip_224": {"img_size": 64, "class_token": True, "global_pool": "token"},
    "vit_pe_core_tiny_patch16_384": {"img_size": 64},  # a class token, and a query that pools
    "vit_small_patch16_224 qk_norm": {"img_size": 64, "qk_norm": True},
    # As UNI, UNI2-h, Virchow2 and H-optimus-0 are made.
    "vit_large_patch16_224": {"img_size": 64, "init_values": 1e-5, "dynamic_img_size": True},
    "vit_giant_patch14_224": {"img_size": 70, "init_values": 1e-5, "reg_tokens": 8, "no_embed_class": True}
    | SWIGLU,
    "vit_huge_patch14_224": {"img_size": 70, "init_values": 1e-5, "reg_tokens": 4} | SWIGLU,
    "vit_giant_patch14_reg4_dinov2": {"img_size": 70, "init_values": 1e-5, "mlp_ratio": 5.33334},
}
AVERAGED: dict[str, dict[str, Any]] = {
    "vit_relpos_base_patch16_224": {"img_size": 64},
    "vit_base_patch16_siglip_gap_224": {"img_size": 64},
    "vit_medium_patch16_rope_reg1_gap_256": {"img_size": 64},
}
POOLED: dict[str, dict[str, Any]] = {
    "vit_base_patch16_siglip_224": {"img_size": 64},
    "vit_so150m_patch16_reg4_map_256": {"img_size": 64},  # its pool leaves out the registers
    "vit_pe_core_gigantic_patch14_448": {"img_size": 70, "attn_pool_num_heads": 3},
}


def small(name: str, **arguments: Any) -> Any:
    torch.manual_seed(0)
    size: dict[str, Any] = {"embed_dim": 96, "num_heads": 3, "depth": 3}
    model: Any = timm.create_model(name.split()[0], num_classes=0, **size, **arguments)
    with torch.no_grad():  # LayerScale and relative biases start near zero: make every part matter
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def images(model: nn.Module, side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@contextmanager
def explicit_softmax(model: Any) -> Iterator[list[Tensor]]:
    """Full attention matrices, by timm's unfused path: every block's softmax passes through `attn_drop`."""
    seen: list[Tensor] = []
    modules = [m for m in model.blocks.modules() if hasattr(m, "fused_attn")]
    hooks = [m.attn_drop.register_forward_pre_hook(lambda _, a: seen.append(a[0].detach())) for m in modules]
    for module in modules:
        module.fused_attn = False
    yield seen
    for module in modules:
        module.fused_attn = True
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", [*FAMILIES, *AVERAGED])
def test_equals_the_explicit_softmax(name: str) -> None:
    arguments = (FAMILIES | AVERAGED)[name]
    model = small(name, **arguments)
    batch = images(model, arguments["img_size"])
    rows = attention_rows(model, batch)
    with explicit_softmax(model) as full, torch.no_grad():
        model(batch)
    matrices = torch.stack(full, dim=1)
    prefix = model.num_prefix_tokens
    expected = matrices[:, :, :, 0] if name in FAMILIES else matrices[:, :, :, prefix:].mean(3)
    assert expected.shape[1] == 3
    assert expected.std() > 1e-5
    first = int(name in FAMILIES)
    assert rows.query == ("cls" if first else "mean patch")
    torch.testing.assert_close(rows.patches.flatten(3), expected[..., prefix:], atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(rows.cls, expected[..., :first].sum(-1), atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(rows.registers, expected[..., first:prefix].sum(-1), atol=2e-6, rtol=1e-4)
    total = rows.patches.sum((-1, -2)) + rows.cls + rows.registers
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize("name", POOLED)
def test_the_pooling_query_equals_its_explicit_softmax(name: str) -> None:
    model = small(name, **POOLED[name])
    batch = images(model, POOLED[name]["img_size"])
    rows = attention_rows(model, batch)
    pool, seen = model.attn_pool, []
    hook = pool.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model(batch)
        hook.remove()
        b, n, width = seen[0].shape
        query = pool.q_norm(pool.q(pool.latent).view(1, 1, 3, width // 3).transpose(1, 2))
        key = pool.k_norm(pool.kv(seen[0])[..., :width].view(b, n, 3, width // 3).transpose(1, 2))
        expected = (query @ key.mT * (width // 3) ** -0.5).softmax(-1)
    assert rows.query == "pooling" and rows.patches.shape[:3] == (2, 1, 3)
    patches, expected = rows.patches.flatten(3)[:, 0], expected[:, :, 0]
    torch.testing.assert_close(patches, expected[..., -patches.shape[-1] :], atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(rows.registers[:, 0], 1 - patches.sum(-1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("chunk", [1, 50, 400])
def test_the_mean_patch_row_does_not_depend_on_the_chunks(
    chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small("vit_relpos_base_patch16_224", img_size=64)
    whole = attention_rows(model, images(model, 64)).patches
    monkeypatch.setattr("dirl.encoders.attention.CHUNK", chunk)
    torch.testing.assert_close(attention_rows(model, images(model, 64)).patches, whole)


@pytest.mark.parametrize("name", ["vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224"])
def test_norms_are_those_before_the_final_norm(name: str) -> None:
    model = small(name, img_size=70 if "14" in name else 64)
    batch = images(model, 70 if "14" in name else 64)
    norms = attention_rows(model, batch).norms
    final, model.norm = model.norm, nn.Identity()
    with torch.no_grad():
        tokens = model.forward_features(batch)[:, model.num_prefix_tokens :]
    model.norm = final
    torch.testing.assert_close(known(norms).flatten(1), tokens.norm(dim=-1))


def test_grid_of_a_wide_image_and_any_size() -> None:
    model = small("vit_tiny_patch16_224", img_size=64, dynamic_img_size=True)
    rows = attention_rows(model, torch.randn(1, 3, 48, 96))
    assert rows.grid == (3, 6)
    assert rows.patches.shape == (1, 3, 3, 3, 6)


def test_everything_is_put_back() -> None:
    model = small("vit_tiny_patch16_224", img_size=64)
    for block in model.blocks:
        block.attn.fused_attn = False
    model.train()
    model.blocks[0].eval()
    rows = attention_rows(model, images(model, 64))
    assert isinstance(rows, AttentionRows)
    assert not any(block.attn.fused_attn for block in model.blocks)
    assert model.training and model.blocks[1].training and not model.blocks[0].training
    assert not rows.patches.requires_grad


def test_dropout_is_off() -> None:
    model = small("vit_tiny_patch16_224", img_size=64, drop_rate=0.5, attn_drop_rate=0.5).train()
    batch = images(model, 64)
    torch.testing.assert_close(attention_rows(model, batch).patches, attention_rows(model, batch).patches)


def test_half_precision_forward_still_gives_whole_rows() -> None:
    model = small("vit_tiny_patch16_224", img_size=64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rows = attention_rows(model, images(model, 64))
    total = rows.patches.sum((-1, -2)) + rows.cls
    assert rows.patches.dtype == torch.float32
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("swin_tiny_patch4_window7_224", "not one stack"),
        ("cait_xxs24_224", "does not use fused attention|calls attention"),
        ("convit_tiny", "does not use fused attention in block 0"),
        ("xcit_nano_12_p16_224", "xcit"),
        ("pit_ti_224", "not one stack"),
        ("mvitv2_base_cls", "not one stack"),
        ("resnet18", "not one stack"),
        ("samvit_base_patch16", "no class token|windows"),
        ("vit_small_patch16_18x2_224", "calls attention 2 times in block 0"),
        ("vit_dwee_patch16_reg1_gap_256", "calls attention 2 times in block 0"),
    ],
)
def test_others_are_refused_with_the_reason(name: str, reason: str) -> None:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"depth": 1} if "18x2" in name else {}
    model: Any = timm.create_model(name, num_classes=0, **arguments).eval()
    side = 224 if name != "samvit_base_patch16" else 1024
    batch = images(model, model.pretrained_cfg["input_size"][-1] if side == 224 else side, 1)
    with pytest.raises(EncoderError, match=f"(?i){reason}"):
        attention_rows(model, batch)


def test_a_model_that_pools_by_the_maximum_is_refused() -> None:
    model = small("vit_relpos_base_patch16_224", img_size=64)
    model.global_pool = "max"
    with pytest.raises(EncoderError, match="neither averages its tokens nor pools"):
        attention_rows(model, images(model, 64))


class Masked(nn.Module):
    """Wraps one call of attention so that its mask can be chosen."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1))
        self.options, self.inside = options, True
        self.blocks = nn.ModuleList([self.Attention()])
        self.patch_embed = timm.layers.PatchEmbed(img_size=4, patch_size=2, embed_dim=4)
        self.q, self.k = torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)

    class Attention(nn.Module):
        def forward(self, call: Callable[[], Tensor]) -> Tensor:
            return call()

    def attend(self) -> Tensor:
        mixed = nn.functional.scaled_dot_product_attention(self.q, self.k, self.k, **self.options)
        return mixed.transpose(1, 2).flatten(2)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[0](self.attend) if self.inside else self.attend()


@pytest.mark.parametrize("shape", [(5, 5), (1, 5), (2, 2, 5, 5)])
def test_masks_are_applied(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    bias = torch.randn(shape)
    allowed = torch.rand(shape) > 0.3
    allowed[..., 0] = True
    for mask, added in ((bias, bias), (allowed, torch.zeros(shape).masked_fill(~allowed, -torch.inf))):
        model = Masked(attn_mask=mask, scale=0.5)
        rows = attention_rows(model, torch.zeros(2, 3, 4, 4))
        logits = model.q @ model.k.transpose(-2, -1) * 0.5 + added
        torch.testing.assert_close(rows.patches[:, 0].flatten(2), logits.softmax(-1)[:, :, 0, 1:])


def test_shared_keys() -> None:
    model = Masked(enable_gqa=True)
    model.k = model.k[:, :1]
    rows = attention_rows(model, torch.zeros(2, 3, 4, 4))
    logits = model.q @ model.k.mT * 8**-0.5
    torch.testing.assert_close(rows.patches[:, 0].flatten(2), logits.softmax(-1)[:, :, 0, 1:])


def test_causal_attention_is_refused() -> None:
    with pytest.raises(EncoderError, match="causal"):
        attention_rows(Masked(is_causal=True), torch.zeros(2, 3, 4, 4))


def test_another_number_of_tokens_is_refused() -> None:
    model = Masked()
    model.q = model.k = torch.randn(2, 2, 6, 8)
    with pytest.raises(EncoderError, match="from 6 to 6 tokens"):
        attention_rows(model, torch.zeros(2, 3, 4, 4))


def test_attention_outside_the_blocks_is_refused() -> None:
    model = Masked()
    model.inside = False
    with pytest.raises(EncoderError, match="outside its blocks"):
        attention_rows(model, torch.zeros(2, 3, 4, 4))


def test_hooks_are_removed_when_it_fails() -> None:
    model = Masked(is_causal=True)
    with pytest.raises(EncoderError, match="causal"):
        attention_rows(model, torch.zeros(2, 3, 4, 4))
    block = model.blocks[0]
    assert not block._forward_hooks and not block._forward_pre_hooks
