"""The intercepted [CLS] row is the explicit softmax's, or there is an error."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import timm
import torch
from torch import Tensor, nn

from dirl.encoders.attention import AttentionRows, attention_rows
from dirl.errors import EncoderError

# Name, and what makes it small; patch sizes and prefix tokens are each family's own.
FAMILIES = {
    "vit_small_patch16_224": {"img_size": 64},
    "deit3_small_patch16_224": {"img_size": 64},
    "vit_small_patch14_reg4_dinov2": {"img_size": 70},
    "vit_small_patch16_dinov3": {"img_size": 64},
    "vit_small_patch16_dinov3_qkvb": {"img_size": 64},
    "eva02_tiny_patch14_224": {"img_size": 70},
    "vit_small_patch16_rope_224": {"img_size": 64},
    "beit_base_patch16_224": {"img_size": 64},
    "vit_relpos_base_patch16_clsgap_224": {"img_size": 64},
    "vit_base_patch16_siglip_224": {"img_size": 64, "class_token": True, "global_pool": "token"},
}


def small(name: str, **arguments: object) -> nn.Module:
    torch.manual_seed(0)
    size = {"embed_dim": 96, "num_heads": 3, "depth": 3}
    model = timm.create_model(name, num_classes=0, **size, **arguments)
    with torch.no_grad():  # LayerScale and relative biases start near zero: make every part matter
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def images(model: nn.Module, side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


@contextmanager
def explicit_softmax(model: nn.Module) -> Iterator[list[Tensor]]:
    """Full attention matrices, by timm's unfused path: every block's softmax passes through `attn_drop`."""
    seen: list[Tensor] = []
    modules = [m for m in model.modules() if hasattr(m, "fused_attn")]
    hooks = [m.attn_drop.register_forward_pre_hook(lambda _, a: seen.append(a[0].detach())) for m in modules]
    for module in modules:
        module.fused_attn = False
    yield seen
    for module in modules:
        module.fused_attn = True
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", FAMILIES)
def test_equals_the_explicit_softmax(name: str) -> None:
    model = small(name, **FAMILIES[name])
    batch = images(model, FAMILIES[name]["img_size"])
    rows = attention_rows(model, batch)
    with explicit_softmax(model) as full, torch.no_grad():
        model(batch)
    expected = torch.stack([matrix[:, :, 0] for matrix in full], dim=1)
    prefix = model.num_prefix_tokens
    assert expected.shape[1] == 3
    assert expected.std() > 1e-4
    torch.testing.assert_close(rows.patches.flatten(3), expected[..., prefix:], atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(rows.cls, expected[..., 0], atol=2e-6, rtol=1e-4)
    torch.testing.assert_close(rows.registers, expected[..., 1:prefix].sum(-1), atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_sum_to_one(name: str) -> None:
    model = small(name, **FAMILIES[name])
    rows = attention_rows(model, images(model, FAMILIES[name]["img_size"]))
    total = rows.patches.sum((-1, -2)) + rows.cls + rows.registers
    torch.testing.assert_close(total, torch.ones_like(total))


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
        ("vit_base_patch16_siglip_224", "no class token"),  # attention pooling
        ("swin_tiny_patch4_window7_224", "no class token"),
        ("cait_xxs24_224", "calls attention 2 times"),
        ("convit_tiny", "does not use fused attention"),
        ("xcit_nano_12_p16_224", "xcit"),
        ("pit_ti_224", "not one stack"),
        ("mvitv2_base_cls", "not one stack"),
        ("resnet18", "no class token"),
    ],
)
def test_others_are_refused_with_the_reason(name: str, reason: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=0).eval()
    batch = images(model, model.pretrained_cfg["input_size"][-1], 1)
    with pytest.raises(EncoderError, match=f"(?i){reason}"):
        attention_rows(model, batch)


def test_two_attentions_in_a_block_are_refused() -> None:
    model = timm.create_model("vit_small_patch16_18x2_224", num_classes=0, depth=1, img_size=32).eval()
    with pytest.raises(EncoderError, match="calls attention 2 times in 1 blocks"):
        attention_rows(model, images(model, 32))


class Masked(nn.Module):
    """Wraps one call of attention so that its mask can be chosen."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1))
        self.options = options
        self.blocks = nn.ModuleList([nn.Identity()])
        self.patch_embed = timm.layers.PatchEmbed(img_size=4, patch_size=2, embed_dim=4)
        self.q, self.k = torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.scaled_dot_product_attention(self.q, self.k, self.k, **self.options)


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


def test_causal_and_shared_keys_are_refused() -> None:
    with pytest.raises(EncoderError, match="causal"):
        attention_rows(Masked(is_causal=True), torch.zeros(2, 3, 4, 4))
    model = Masked(enable_gqa=True)
    model.k = model.k[:, :1]
    with pytest.raises(EncoderError, match="grouped"):
        attention_rows(model, torch.zeros(2, 3, 4, 4))


def test_another_number_of_tokens_is_refused() -> None:
    model = Masked()
    model.q = model.k = torch.randn(2, 2, 6, 8)
    with pytest.raises(EncoderError, match="6 tokens in block 0"):
        attention_rows(model, torch.zeros(2, 3, 4, 4))
