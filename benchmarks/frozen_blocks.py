"""A training step of an encoder with frozen blocks, against one that trains all blocks.

`python benchmarks/frozen_blocks.py`. Time is measured in turns. Memory is what autograd stores for the
backward pass, parameters left out. Writes results/frozen_blocks.json.
"""

from functools import partial

import torch
from harness import compare, write

from dirl.config import EncoderConfig
from dirl.encoders.vit import ViT
from dirl.pretrain.optimiser import freeze

FROZEN = (0, 6, 10, 11)
VIEW_PX = 128
BATCH = 8
ENCODER = EncoderConfig(name="vit_small_patch16_224")


def make(blocks: int) -> ViT:
    """Make an encoder whose first blocks are frozen."""
    encoder = ViT(ENCODER, VIEW_PX)
    freeze(encoder, blocks)
    return encoder


def step(encoder: ViT, images: torch.Tensor) -> None:
    """Run the encoder forward and backward."""
    encoder.zero_grad()
    encoder(images).cls.square().mean().backward()


def stored_mib(encoder: ViT, images: torch.Tensor) -> float:
    """Return how much autograd stores for a backward pass, each storage once."""
    weights = {p.untyped_storage().data_ptr() for p in encoder.parameters()}
    sizes: dict[int, int] = {}
    kept: list[torch.Tensor] = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
            kept.append(tensor)  # so that no other tensor takes its place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        encoder(images)
    return sum(sizes.values()) / 2**20


def main() -> None:
    """Time and weigh the steps, and write the results."""
    torch.manual_seed(0)
    images = torch.rand(BATCH, 3, VIEW_PX, VIEW_PX)
    encoders = {f"{count} of 12 frozen": make(count) for count in FROZEN}
    memory = {name: stored_mib(encoder, images) for name, encoder in encoders.items()}
    whole = next(iter(memory.values()))
    time = compare("step", {name: partial(step, e, images) for name, e in encoders.items()})
    stored = {name: {"mib": mib, "ratio": mib / whole} for name, mib in memory.items()}
    print(stored)
    print(write("frozen_blocks", {"results": [time], "stored": stored}))


if __name__ == "__main__":
    main()
