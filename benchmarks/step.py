"""Whole training steps (views, forward, backward, optimiser): DiRL over vanilla, in turns, in one process.

python benchmarks/step.py
"""

import numpy as np
import torch
from harness import compare, write

from dirl.config import PretrainRecipe, make
from dirl.encoders.vit import ViT
from dirl.objectives.simclr import SimCLR
from dirl.pretrain.module import PretrainModule

ARMS = {
    "vanilla": {"weight": 0.0},
    "pool": {"extract": "pool"},
    "cls": {"extract": "cls"},
}
ON_CPU = {
    "vit_tiny 192 wide, 4 deep, 64 tokens": {
        "batch": 64,
        "views": {"size_px": 96},
        "encoder": {"name": "vit_tiny_patch16_224", "patch_px": 12, "width": 192, "depth": 4, "heads": 6},
        "objective": {"hidden_width": 512, "output_width": 64},
    },
    "vit_small 384 wide, 12 deep, 196 tokens": {
        "batch": 8,
        "views": {"size_px": 112},
        "encoder": {"name": "vit_small_patch16_224", "patch_px": 8},
    },
}
ON_GPU = {
    "vit_small patch 8, 112 px": {
        "batch": 256,
        "views": {"size_px": 112},
        "encoder": {"name": "vit_small_patch16_224", "patch_px": 8},
    },
    "vit_base patch 16, 224 px": {
        "batch": 128,
        "views": {"size_px": 224},
        "encoder": {"name": "vit_base_patch16_224"},
    },
}


def stepper(recipe, images, regions, device):
    torch.manual_seed(0)
    encoder = ViT(recipe.encoder, recipe.views.size_px)
    objective = SimCLR(encoder.width, recipe.objective, dense=recipe.dense.weight > 0)
    module = PretrainModule(encoder, objective, recipe, 0.5, lambda *place: None).to(device)
    encoder.use_fused_attention(device != "cpu")
    optimiser = torch.optim.AdamW(module.parameters())
    positions = torch.arange(len(images))

    def step():
        optimiser.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
            loss = module.training_step((images, regions, positions), 0)
        loss.backward()
        optimiser.step()
        if device != "cpu":
            torch.cuda.synchronize()

    return step


def main():
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = np.random.default_rng(0)
    results = {}
    for name, shape in (ON_GPU if device == "cuda" else ON_CPU).items():
        side = round(shape["views"]["size_px"] * 4 / 3)
        pixels = generator.integers(0, 256, (shape["batch"], 3, side, side), dtype=np.uint8)
        coarse = generator.integers(1, 3, (shape["batch"], side // 8 + 1, side // 8 + 1), dtype=np.uint8)
        ids = coarse.repeat(8, axis=1).repeat(8, axis=2)[:, :side, :side]
        images, regions = (
            torch.from_numpy(pixels).to(device),
            torch.from_numpy(np.ascontiguousarray(ids)).to(device),
        )
        ways = {
            arm: stepper(make(PretrainRecipe, shape | {"dense": dense}), images, regions, device)
            for arm, dense in ARMS.items()
        }
        results[name] = compare(f"step of {name}", ways, repeats=15, count=shape["batch"], unit="tile")
    write("step", {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "steps": results})


if __name__ == "__main__":
    main()
