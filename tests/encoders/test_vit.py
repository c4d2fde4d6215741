"""The trained encoder: same tokens as timm's, and region rows that mean what they say."""

import pytest
import torch
from torch.nn.attention import sdpa_kernel

from dirl.config import EncoderConfig
from dirl.core.errors import EncoderError
from dirl.encoders.base import EncoderOutput
from dirl.encoders.vit import ViT, block_with_regions
from dirl.pretrain.optimiser import freeze
from dirl.pretrain.trainer import ATTENTION

SMALL = EncoderConfig(name="vit_tiny_patch16_224", patch_px=8, width=48, depth=2, heads=3)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return ViT(SMALL, view_px=32).eval()


def coverage_of(b, r, grid):
    share = torch.rand(b, r, grid, grid)
    return share / share.sum(dim=1, keepdim=True)


def test_tokens_are_timms(encoder):
    images = torch.rand(2, 3, 32, 32)
    out = encoder(images)
    tokens = encoder.vit.forward_features((images - 0.5) / 0.5)
    torch.testing.assert_close(out.cls, tokens[:, 0])
    torch.testing.assert_close(out.patches, tokens[:, 1:])
    assert out.grid == (4, 4) and out.registers.shape == (2, 0, 48) and out.regions is None


@pytest.mark.gpu
def test_fused_attention_has_the_gradients_of_the_explicit_one_in_half_precision():
    def gradient(fused):
        torch.manual_seed(0)
        encoder = ViT(SMALL, view_px=128).cuda()
        encoder.use_fused_attention(fused)
        images, coverage = (
            torch.rand(64, 3, 128, 128).cuda(),
            (torch.rand(64, 2, 16, 16) - 0.4).clamp(0).cuda(),
        )
        with torch.autocast("cuda", torch.bfloat16):
            out = encoder(images, coverage)
            loss = out.regions.float().square().mean() + (out.cls.float()[:, :24] - 1).square().mean()
        loss.backward()
        return torch.cat([p.grad.flatten() for p in encoder.parameters() if p.grad is not None])

    with sdpa_kernel(ATTENTION):
        fused, explicit = gradient(True), gradient(False)
    assert (fused - explicit).norm() < 0.02 * explicit.norm()


@pytest.mark.parametrize("fused", [True, False])
def test_regions_leave_the_ordinary_tokens_alone(encoder, fused):
    encoder.use_fused_attention(fused)
    images = torch.rand(2, 3, 32, 32)
    plain, with_regions = encoder(images), encoder(images, coverage_of(2, 3, 4))
    torch.testing.assert_close(plain.cls, with_regions.cls)
    torch.testing.assert_close(plain.patches, with_regions.patches)
    assert with_regions.regions.shape == (2, 3, 48)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_a_region_row_is_the_class_query_over_the_patches_with_log_coverage(name):
    torch.manual_seed(1)
    block = ViT(EncoderConfig(name=name, width=48, depth=1, heads=3, patch_px=8), 16).eval().vit.blocks[0]
    prefix, n = 2, 5
    tokens, coverage = torch.randn(2, prefix + n, 48), torch.rand(2, 2, n)
    coverage[:, :, 0] = 0
    rows = block_with_regions(block, tokens, coverage, prefix)[0][:, prefix + n :]

    # Independently: one token sequence per region, in which softmax(log a + log c) = a c / sum(a c).
    for r in range(2):
        normed = block.norm1(tokens)
        q, k, v = block.attn.qkv(normed).view(2, prefix + n, 3, 3, 16).unbind(2)
        weight = torch.exp(torch.einsum("bhd,bnhd->bhn", q[:, 0], k[:, prefix:]) / 4) * coverage[:, None, r]
        weight = weight / weight.sum(dim=-1, keepdim=True)
        mixed = torch.einsum("bhn,bnhd->bhd", weight, v[:, prefix:]).reshape(2, 48)
        x = tokens[:, 0] + block.ls1(block.attn.proj(mixed))
        torch.testing.assert_close(rows[:, r], x + block.ls2(block.mlp(block.norm2(x))))


def test_a_region_token_ignores_what_lies_outside_its_region(encoder):
    encoder.vit.blocks = encoder.vit.blocks[-1:]  # one block, or the others mix the patches
    images = torch.rand(1, 3, 32, 32)
    coverage = torch.zeros(1, 1, 4, 4)
    coverage[..., :2, :] = 1
    changed = images.clone()
    changed[..., 16:, :] = torch.rand(1, 3, 16, 32)
    torch.testing.assert_close(encoder(images, coverage).regions, encoder(changed, coverage).regions)


def test_a_region_without_tokens_is_finite_and_has_finite_gradients(encoder):
    out = encoder(torch.rand(2, 3, 32, 32), torch.zeros(2, 2, 4, 4))
    assert torch.isfinite(out.regions).all()
    out.regions.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters() if p.grad is not None)


def test_region_rows_train_the_last_class_query(encoder):
    """The reason for this extraction: pooling leaves the audited query without a gradient."""
    images, coverage = torch.rand(2, 3, 32, 32), coverage_of(2, 2, 4)
    qkv = encoder.vit.blocks[-1].attn.qkv

    def class_query_gradient(loss):
        caught = []

        def keep(output):
            output.retain_grad()
            caught.append(output)

        handle = qkv.register_forward_hook(lambda m, i, o: keep(o))
        loss().backward()
        handle.remove()
        return caught[0].grad[:, 0, :48].abs().sum()

    assert class_query_gradient(lambda: encoder(images, coverage).regions.square().sum()) > 0
    assert class_query_gradient(lambda: encoder(images).patches.square().sum()) == 0


def test_any_image_size(encoder):
    assert encoder(torch.rand(1, 3, 48, 40)).grid == (6, 5)


@pytest.mark.parametrize(
    ("config", "view", "message"),
    [
        (EncoderConfig(name="vit_tinny"), 32, "no such model"),
        (EncoderConfig(name="resnet18"), 32, "cannot"),
        (EncoderConfig(name="vit_base_patch16_siglip_224"), 224, "cannot be pretrained"),
        (SMALL, 36, "not a multiple of the patch size"),
    ],
)
def test_bad_encoders_are_refused(config, view, message):
    with pytest.raises(EncoderError, match=message):
        ViT(config, view)


def test_masked_tokens_do_not_show_what_is_under_them():
    config = EncoderConfig(name="vit_tiny_patch16_224", patch_px=8, width=32, depth=2, heads=2, registers=3)
    torch.manual_seed(0)
    encoder = ViT(config, 32, masked=True).eval()
    images, masked = torch.rand(2, 3, 32, 32), torch.zeros(2, 4, 4, dtype=torch.bool)
    masked[:, 1, 2] = True
    changed = images.clone()
    changed[:, :, 8:16, 16:24] = 0
    one, other = encoder(images, masked=masked), encoder(changed, masked=masked)
    torch.testing.assert_close(one.cls, other.cls)
    assert one.registers.shape == (2, 3, 32)
    assert one.masked is not None and one.masked.sum() == 2 and bool(one.masked[0, 6])
    assert not torch.equal(encoder(images).cls, encoder(changed).cls)
    assert not any("mask" in key for key in encoder.vit.state_dict())


def test_only_the_kept_tokens_are_trained_on():
    config = SMALL.model_copy(update={"drop_tokens": 0.5, "depth": 1})
    torch.manual_seed(0)
    dropping = ViT(config, view_px=32)
    images, coverage = torch.rand(3, 3, 32, 32), coverage_of(3, 2, 4)
    out = dropping.train()(images, coverage)
    assert out.kept.shape == (3, 8) and out.patches.shape == (3, 8, 48) and out.regions.shape == (3, 2, 48)
    assert (out.kept.diff(dim=1) > 0).all() and len({tuple(row) for row in out.kept.tolist()}) == 3

    # Independently: image by image, the block on the sequence of what was kept.
    vit = dropping.vit
    tokens = vit._pos_embed(vit.patch_embed((images - 0.5) / 0.5))
    for i, kept in enumerate(out.kept):
        mine = torch.cat([tokens[i, :1], tokens[i, 1:][kept]])[None]
        expected = vit.norm(vit.blocks(mine))
        torch.testing.assert_close(out.cls[i], expected[0, 0])
        torch.testing.assert_close(out.patches[i], expected[0, 1:])
        shares = coverage.flatten(2)[i : i + 1, :, kept]
        rows = vit.norm(block_with_regions(vit.blocks[0], mine, shares, 1)[0])
        torch.testing.assert_close(out.regions[i], rows[0, 9:])
    assert dropping.eval()(images).kept is None and dropping(images).patches.shape == (3, 16, 48)


def test_the_output_of_views_in_one_pass_is_taken_apart():
    output = EncoderOutput(
        cls=torch.randn(6, 4),
        patches=torch.randn(6, 9, 4),
        registers=torch.zeros(6, 0, 4),
        grid=(3, 3),
        masked=torch.rand(6, 9) < 0.5,
    )
    parts = output.chunk(3)
    assert [len(part.cls) for part in parts] == [2, 2, 2] and all(part.grid == (3, 3) for part in parts)
    for name in ("cls", "patches", "registers", "masked"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(output, name))
    assert parts[0].regions is None and parts[0].kept is None


@pytest.mark.parametrize("checkpointed", [False, True])
def test_frozen_blocks_store_nothing_and_leave_the_gradients_of_the_others(checkpointed):
    config = SMALL.model_copy(update={"depth": 4, "checkpoint_blocks": checkpointed})

    def trained(frozen):
        torch.manual_seed(0)
        encoder = ViT(config, view_px=32)
        freeze(encoder, frozen)
        outputs = []
        for block in encoder.vit.blocks[:frozen]:
            block.register_forward_hook(lambda module, given, out: outputs.append(out.requires_grad))
        out = encoder(torch.rand(2, 3, 32, 32), torch.rand(2, 2, 4, 4))
        (out.cls.square().mean() + out.regions.square().mean()).backward()
        return encoder, out, outputs

    whole, expected, _ = trained(0)
    part, found, graphs = trained(3)
    assert graphs == [False] * 3
    torch.testing.assert_close(found.cls, expected.cls, rtol=0, atol=0)
    torch.testing.assert_close(found.regions, expected.regions, rtol=0, atol=0)
    for name, weight in part.vit.named_parameters():
        if name.startswith(("blocks.3.", "norm.")):
            torch.testing.assert_close(weight.grad, whole.vit.get_parameter(name).grad, rtol=0, atol=0)
        else:
            assert weight.grad is None
