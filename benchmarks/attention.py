"""The two equal attentions of a ViT on a CPU: torch's fused one over the explicit softmax.

By this measurement `PretrainModule.on_fit_start` chooses. Forward and backward of an encoder, as a student
trains, and the forward pass alone, as a teacher runs.

python benchmarks/attention.py
"""

import argparse
from collections.abc import Callable
from typing import Any

import torch
from harness import compare, write

from dirl.config import EncoderConfig
from dirl.encoders.vit import ViT

MODELS = {
    "ViT-Ti/16 at 128 px, 64 tokens": ("vit_tiny_patch16_224", 128, 32),
    "ViT-S/16 at 224 px, 196 tokens": ("vit_small_patch16_224", 224, 8),
}
# Whether autocast, and by what the batch is divided: without instructions for it bf16 is ten times slower.
PRECISIONS = {"fp32": (False, 1), "bf16": (True, 4)}


def train(encoder: ViT, images: torch.Tensor, *, fused: bool, bf16: bool) -> Callable[[], None]:
    def step() -> None:
        encoder.use_fused_attention(fused)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = encoder(images).cls.float().square().mean()
        encoder.zero_grad()
        loss.backward()

    return step


def infer(encoder: ViT, images: torch.Tensor, *, fused: bool, bf16: bool) -> Callable[[], None]:
    def step() -> None:
        encoder.use_fused_attention(fused)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            encoder(images)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--views", type=int, help="in a batch, instead of each model's own")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    chosen = parser.parse_args()
    results: dict[str, Any] = {}
    for name, (architecture, size_px, default) in MODELS.items():
        encoder = ViT(EncoderConfig(name=architecture), size_px)
        found = results[name] = {}
        for precision in chosen.precisions:
            bf16, divisor = PRECISIONS[precision]
            images = torch.rand(max(1, (chosen.views or default) // divisor), 3, size_px, size_px)
            for make in (train, infer):
                ways = {
                    way: make(encoder, images, fused=way == "fused", bf16=bf16)
                    for way in ("explicit", "fused")
                }
                what = f"{make.__name__}, {precision}"
                found[what] = compare(f"{name}: {what}", ways, chosen.rounds, count=len(images), unit="view")
    print(write("attention", {"threads": torch.get_num_threads(), "attention": results}))


if __name__ == "__main__":
    main()
