"""timm vision transformers with an additional class-query row per region in the last block."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from timm.models import checkpoint_seq
from timm.models.vision_transformer import Attention, Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from dirl.config import EncoderConfig
from dirl.core.errors import EncoderError
from dirl.core.files import replacing, write_json
from dirl.encoders.base import EncoderOutput, at_kept, log_coverage
from dirl.encoders.timm_models import new_model, tile_transform


class ViT(nn.Module):
    """A timm ``VisionTransformer`` with a class token and plain blocks, of any patch and image size.

    `view_px` is the side of the training views; position embeddings are resampled for other sizes. With
    `masked` it learns a token that replaces masked patch tokens, which is not part of the timm model.
    """

    vit: Any
    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig, view_px: int, *, masked: bool = False) -> None:
        super().__init__()
        self.architecture, self.normalisation = config.name, (config.mean, config.std)
        self.model_args = model_args(config, view_px)
        self.vit = new_plain_vit(config.name, self.model_args)
        self.width: int = self.vit.embed_dim
        self.patch_px: int = self.vit.patch_embed.patch_size[0]
        if view_px % self.patch_px:
            raise EncoderError(
                f"a view of {view_px} px is not a multiple of the patch size, {self.patch_px} px",
                where="views.size_px",
                remedy=f"use {view_px // self.patch_px * self.patch_px or self.patch_px}",
            )
        self.checkpoint_blocks, self.drop_tokens = config.checkpoint_blocks, config.drop_tokens
        self.region_heads: int | None = None
        self.mask_token = nn.Parameter(torch.zeros(self.width)) if masked else None
        self.register_buffer("mean", torch.tensor(config.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(config.std).view(3, 1, 1), persistent=False)

    def use_fused_attention(self, fused: bool) -> None:
        """Choose between torch's fused attention and the explicit softmax; both are equal up to rounding."""
        for block in self.vit.blocks:
            block.attn.fused_attn = fused

    def save(self, folder: Path, tile_px: int) -> None:
        """Make a folder that timm loads: ``config.json`` and ``model.safetensors``.

        `tile_px` is the side of the tiles that it was trained on. timm's own transform then gives tiles of
        this side as `dirl.encoders.loading.preprocess` does.

        ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads it, and so does
        ``timm.create_model(NAME, checkpoint_path=FOLDER/model.safetensors, num_classes=0, **ARGS)`` with the
        architecture and the model_args in its config.json.
        """
        mean, std = self.normalisation
        with replacing(folder) as temporary:
            temporary.mkdir()
            state = {name: value.detach().cpu().contiguous() for name, value in self.vit.state_dict().items()}
            save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
            write_json(
                temporary / "config.json",
                {
                    "architecture": self.architecture,
                    "num_classes": 0,
                    "num_features": self.width,
                    "model_args": self.model_args,
                    "pretrained_cfg": {
                        **tile_transform(tile_px, self.patch_px),
                        "fixed_input_size": False,
                        "mean": list(mean),
                        "std": list(std),
                        "num_classes": 0,
                    },
                },
            )

    def forward(
        self,
        images: Tensor,
        coverage: Tensor | None = None,
        masked: Tensor | None = None,
        attention: bool = False,
    ) -> EncoderOutput:
        """Encode images, float ``(b, 3, h, w)`` in [0, 1], and regions if coverage is given.

        The coverage is the share of each patch token that each region covers, ``(b, r, gh, gw)``. The output
        then has region tokens ``(b, r, d)``. The token of an empty region is finite but has no meaning: mask
        it. The patch tokens `masked`, bool ``(b, gh, gw)``, are replaced by the mask token. With `attention`
        the output has that of the class token.
        """
        vit = self.vit
        tokens = vit.patch_embed((images - self.mean) / self.std)
        grid = (images.shape[2] // self.patch_px, images.shape[3] // self.patch_px)
        if masked is not None:
            assert self.mask_token is not None
            tokens = torch.where(masked[..., None], self.mask_token.to(tokens.dtype), tokens)
        tokens = vit._pos_embed(tokens)
        prefix: int = vit.num_prefix_tokens
        kept = None
        if self.training and self.drop_tokens:
            kept = draw_kept(len(tokens), grid[0] * grid[1], self.drop_tokens, tokens.device)
            places = kept[:, :, None].expand(-1, -1, tokens.shape[2])
            tokens = torch.cat([tokens[:, :prefix], tokens[:, prefix:].gather(1, places)], dim=1)
        tokens = vit.norm_pre(tokens)
        with_rows = coverage is not None or attention
        last = len(vit.blocks) - with_rows
        recompute = self.checkpoint_blocks and torch.is_grad_enabled()
        tokens = (
            checkpoint_seq(vit.blocks[:last], tokens, use_reentrant=False)
            if recompute
            else vit.blocks[:last](tokens)
        )
        rows: Tensor | None = None
        if with_rows:
            regions = tokens.new_empty(len(tokens), 0, *grid) if coverage is None else coverage
            shares = at_kept(regions.flatten(2), kept)
            given = (vit.blocks[-1], tokens, shares, prefix, self.region_heads)
            tokens, rows = (
                checkpoint(block_with_regions, *given, use_reentrant=False)
                if recompute
                else block_with_regions(*given)
            )
        tokens = vit.norm(tokens)
        end = prefix + (grid[0] * grid[1] if kept is None else kept.shape[1])
        return EncoderOutput(
            cls=tokens[:, 0],
            patches=tokens[:, prefix:end],
            registers=tokens[:, 1:prefix],
            grid=grid,
            regions=None if coverage is None else tokens[:, end:],
            attention=rows if attention else None,
            masked=None if masked is None else masked.flatten(1),
            kept=kept,
        )


def draw_kept(images: int, tokens: int, drop: float, device: torch.device) -> Tensor:
    """Draw the patch tokens to keep for each image: places ``(images, n)``, ascending; n is at least 1."""
    count = max(1, round(tokens * (1 - drop)))
    return torch.rand(images, tokens, device=device).argsort(dim=1)[:, :count].sort(dim=1).values


def model_args(config: EncoderConfig, view_px: int) -> dict[str, Any]:
    """Return the arguments of ``timm.create_model`` for this encoder."""
    chosen = {
        "patch_size": config.patch_px,
        "embed_dim": config.width,
        "depth": config.depth,
        "num_heads": config.heads,
        "reg_tokens": config.registers,
        "drop_path_rate": config.drop_path or None,
    }
    return {"img_size": view_px, "dynamic_img_size": True} | {
        k: v for k, v in chosen.items() if v is not None
    }


def new_plain_vit(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Make a randomly initialised timm ViT for pretraining: with plain blocks and a class token."""
    vit: nn.Module = new_model(name, arguments)
    plain = (
        isinstance(vit, VisionTransformer)
        and bool(vit.has_class_token)
        and all(type(block) is Block and type(block.attn) is Attention for block in vit.blocks.children())
    )
    if not plain:
        raise EncoderError(
            "cannot be pretrained here",
            where=repr(name),
            remedy="choose a ViT with a class token and plain blocks, such as vit_small_patch16_224",
        )
    # The norm after pooling belongs to a classifier. Pretraining trains the tokens.
    vit.fc_norm = nn.Identity()
    return vit


def block_with_regions(
    block: Any, tokens: Tensor, coverage: Tensor, prefix: int, heads: int | None = None
) -> tuple[Tensor, Tensor]:
    """Run timm's plain pre-norm block on its tokens and on an additional class-query row per region.

    The row of region r uses the block's [CLS] query and its keys and values of the patch tokens, with
    log(coverage) added to the logits. The rest of the block is the same as for any token. Keys and values are
    computed once, and the ordinary tokens equal those of the plain block.

    The tokens are ``(b, prefix + n, d)``, [CLS] first; `prefix` counts the class and register tokens. The
    coverage is ``(b, r, n)``, with r = 0 for no regions; tokens without coverage get no attention. With
    `heads`, only this number of first heads attend to the region, and the others as the class token does.

    Returns
    -------
    tuple
        The tokens ``(b, prefix + n + r, d)``, and the class token's attention over the patch tokens alone,
        ``(b, h, n)``.
    """
    attn = block.attn
    normed = block.norm1(tokens)
    b, length, _ = normed.shape
    qkv = attn.qkv(normed).reshape(b, length, 3, attn.num_heads, attn.head_dim).permute(2, 0, 3, 1, 4)
    q, k, v = qkv.unbind(0)
    q, k = attn.q_norm(q), attn.k_norm(k)
    drop = attn.attn_drop.p if attn.training else 0.0
    if attn.fused_attn:
        mixed = nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=drop)
    else:
        mixed = attn.attn_drop(((q * attn.scale) @ k.transpose(-2, -1)).softmax(dim=-1)) @ v

    logits = (q[:, :, :1] * attn.scale) @ k[:, :, prefix:].transpose(-2, -1)
    rows = (logits.float() + log_coverage(coverage)[:, None]).softmax(dim=-1).to(v.dtype) @ v[:, :, prefix:]
    if heads is not None:
        rows = torch.cat([rows[:, :heads], mixed[:, heads:, :1].expand_as(rows[:, heads:])], dim=1)

    mixed = torch.cat([mixed, rows], dim=2).transpose(1, 2).flatten(2)
    mixed = attn.norm(mixed)
    regions = coverage.shape[1]
    carried = torch.cat([tokens, tokens[:, :1].expand(-1, regions, -1)], dim=1)
    if getattr(attn, "gate", None) is not None:
        gate = attn.gate(normed).sigmoid()
        mixed = mixed * torch.cat([gate, gate[:, :1].expand(-1, regions, -1)], dim=1)
    carried = carried + block.drop_path1(block.ls1(attn.proj_drop(attn.proj(mixed))))
    out: Tensor = carried + block.drop_path2(block.ls2(block.mlp(block.norm2(carried))))
    return out, logits[:, :, 0].float().softmax(dim=-1)
