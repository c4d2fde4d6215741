"""A trial of bf16: whether it gives the features of fp32."""

import torch
from torch.nn.functional import cosine_similarity

from dirl.config import Pool
from dirl.core.precision import BF16, FP32
from dirl.encoders.loading import LoadedEncoder
from dirl.features.pooling import MODEL, REGIONS, embed_pooled
from dirl.synthetic import draw

LEAST = 0.999
"""Least cosine between a tile's features in bf16 and in fp32."""
SIDE = 512
"""Side in px of the drawn slide whose middle gives the tiles, if they are small."""


def agreement(encoder: LoadedEncoder, size_px: int, pool: Pool) -> float:
    """Return the lowest cosine between features in bf16 and in fp32, of four drawn tiles of this size."""
    side = max(SIDE, 2 * size_px)
    drawn = torch.from_numpy(draw(0, (side, side)).rgb).permute(2, 0, 1)
    starts = (side // 2 - size_px, side // 2)
    tiles = torch.stack([drawn[:, y : y + size_px, x : x + size_px] for y in starts for x in starts])
    kind = MODEL if pool == REGIONS else pool
    exact, fast = (embed_pooled(encoder, tiles, pool=kind, precision=each).float() for each in (FP32, BF16))
    return float(cosine_similarity(exact, fast).min())
