"""An encoder whose attention is known, and a slide with a dark square whose place is known."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tifffile
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, scaled_dot_product_attention

from dirl.encoders.loading import LoadedEncoder

PATCH_PX = 16
SQUARE = (403, 297, 96)  # x, y and side in level-0 pixels, on no token's border
GLASS, PINK, DARK = (243, 242, 244), (222, 160, 196), (70, 30, 110)


class Attends(nn.Module):
    """A block of two heads: the keys of head 0 are what it is given, those of head 1 all alike."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness

    def forward(self, darkness: Tensor) -> Tensor:
        keys = torch.stack([darkness, torch.zeros_like(darkness)], 1)[..., None]
        queries = torch.full_like(keys, self.sharpness)
        return scaled_dot_product_attention(queries, keys, keys, scale=1.0)[:, 0]


class Darkness(nn.Module):
    """Its head 0 attends by ``softmax(sharpness · darkness)``, its head 1 evenly, [CLS] as to white."""

    def __init__(self, sharpness: float = 4.0) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1))
        self.blocks = nn.ModuleList([Attends(sharpness)])
        self.patch_embed = SimpleNamespace(dynamic_feat_size=lambda size: [side // PATCH_PX for side in size])
        self.calls = 0
        self.fails_at: int | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls == self.fails_at:
            raise KeyboardInterrupt
        darkness = 1 - avg_pool2d(images.mean(1, keepdim=True), PATCH_PX).flatten(1)
        return self.blocks[0](torch.cat([torch.zeros(len(images), 1), darkness], 1))


def darkness_encoder(**options: float) -> LoadedEncoder:
    return LoadedEncoder(
        name="darkness",
        spec="test:darkness",
        digest="0" * 16,
        model=Darkness(**options).eval(),
        patch_px=PATCH_PX,
        input_px=None,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        run=None,
        architecture="darkness",
        arguments={},
    )


def write_tiff(path: Path, rgb: np.ndarray, mpp: float | None) -> Path:
    options: dict[str, Any] = (
        {} if mpp is None else {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    )
    tifffile.imwrite(
        path, rgb, photometric="rgb", tile=(256, 256), compression="zlib", metadata=None, **options
    )
    return path


def planted_rgb(height: int = 700, width: int = 900) -> np.ndarray:
    rng = np.random.default_rng(0)
    rgb = np.full((height, width, 3), GLASS, np.uint8)
    rgb[60:-60, 60:-90] = PINK
    x, y, side = SQUARE
    rgb[y : y + side, x : x + side] = DARK
    noise = rng.integers(-12, 13, rgb.shape[:2])[..., None]
    return np.clip(rgb + noise, 0, 255).astype(np.uint8)
