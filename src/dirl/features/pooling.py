"""Pooling of a tile's tokens into its feature."""

from typing import Final

import torch
from torch import Tensor, nn

from dirl.config import Pool
from dirl.core.errors import EncoderError
from dirl.core.precision import BF16, FP32, ForwardPrecision
from dirl.encoders.attention import token_grid
from dirl.encoders.loading import LoadedEncoder, embed_images, preprocess, resize
from dirl.prior.coverage import coverage
from dirl.prior.tokens import pool as pool_tokens

MODEL: Final = "model"
MEAN: Final = "mean"
REGIONS: Final = "regions"


@torch.inference_mode()
def embed_pooled(
    encoder: LoadedEncoder,
    images: Tensor,
    regions: Tensor | None = None,
    *,
    pool: Pool = MODEL,
    precision: ForwardPrecision = FP32,
) -> Tensor:
    """Embed images as float32 (b, d), of pooled regions (b, 2 d), with zeros for an empty region.

    If the model has a norm after its own pooling, the norm is also applied after the other poolings.

    Parameters
    ----------
    images : Tensor of shape (b, 3, h, w), uint8
    regions : Tensor of shape (b, h, w), uint8
        0 glass, 1 nuclei, 2 the rest of the tissue. Only ``regions`` needs it.
    pool
        ``model`` is the model's own pooling, and ``mean`` that of the patch tokens. ``regions`` joins their
        means over nuclei and over the rest of the tissue, as DiRL matches them between views. Each token
        weighs as much as the region covers of it.
    precision
        Precision of the forward pass, ``fp32`` or ``bf16``. Pooling is in fp32.

    Raises
    ------
    EncoderError
        If patch tokens are needed and the model has none.
    """
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=precision == BF16):
        if pool == MODEL:
            return embed_images(encoder, images)
        tokens = patch_tokens(encoder, images)
    if pool == REGIONS:
        assert regions is not None
        share = region_shares(encoder, regions)[:, :2]
    else:
        share = torch.ones(len(tokens), 1, tokens.shape[1])
    share = share.to(tokens.device)
    norm: nn.Module = getattr(encoder.model, "fc_norm", None) or nn.Identity()
    rows = norm(pool_tokens(tokens, share)) * (share.sum(dim=-1, keepdim=True) > 0)
    found: Tensor = rows.flatten(1)
    return found


@torch.inference_mode()
def patch_tokens(encoder: LoadedEncoder, images: Tensor) -> Tensor:
    """Patch tokens after the model's last norm, float32, shape (b, n, d), in row-major order.

    A model that does not have one token per patch is an `EncoderError`.
    """
    return all_tokens(encoder, images)[1]


@torch.inference_mode()
def all_tokens(encoder: LoadedEncoder, images: Tensor) -> tuple[Tensor, Tensor]:
    """Tokens after the model's last norm, float32: prefix tokens (b, p, d) and patch tokens (b, n, d).

    The class token, if there is one, is the first of the prefix; registers follow. A model that does not have
    one token per patch is an `EncoderError`.
    """
    model = encoder.model
    ready = preprocess(encoder, images)
    found = encoder.timm.forward_features(ready)
    rows, columns = token_grid(model, *ready.shape[-2:])
    prefix = getattr(model, "num_prefix_tokens", 0)
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[1] != prefix + rows * columns:
        given = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise EncoderError(
            f"{type(model).__name__} has not one token for each of {rows} × {columns} patches (but {given})",
            where=encoder.spec,
            remedy="use the model's own pooling, as in `dirl embed --pool model`",
        )
    return found[:, :prefix].float(), found[:, prefix:].float()


def region_shares(encoder: LoadedEncoder, regions: Tensor) -> Tensor:
    """Shares of each of the encoder's n tokens that nuclei, the rest of the tissue, and glass cover.

    Regions (t, h, w) give shares (t, 3, n), which sum to 1 over the regions.
    """
    tissue = coverage(resize(encoder, regions), 2, encoder.patch_px).flatten(2)
    return torch.cat([tissue, 1 - tissue.sum(1, keepdim=True)], dim=1)
