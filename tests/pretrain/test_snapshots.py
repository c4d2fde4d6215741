"""Snapshots: of held-out tiles only, and neighbours if there are labels."""

import numpy as np
import torch
from numpy.typing import NDArray

from dirl.config import EncoderConfig
from dirl.encoders.vit import ViT
from dirl.pretrain.snapshots import NeighbourSnapshot, choose_snapshots
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out


def test_without_labels_only_attention_is_measured(small_store, recipe):
    tiles = TileStore.open(small_store)
    out = held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed)
    snapshots = choose_snapshots(tiles, out, recipe.seed, 32, 8)
    encoder = ViT(recipe.encoder, 32).eval()
    with torch.no_grad():
        seen = {key for snapshot in snapshots for key in snapshot(encoder)}
    assert seen == {"attention/entropy_joint", "attention/entropy_per_head"}


def test_neighbours_tell_two_colours_apart():
    rng = np.random.default_rng(0)

    def tiles(count: int) -> tuple[torch.Tensor, NDArray[np.int64]]:
        labels = np.arange(count) % 2
        images = rng.integers(0, 60, (count, 3, 16, 16)).astype(np.uint8)
        images[labels == 1] += 150
        return torch.from_numpy(images), labels

    encoder = ViT(
        EncoderConfig(name="vit_tiny_patch16_224", patch_px=8, width=32, depth=1, heads=2), 16
    ).eval()
    with torch.no_grad():
        right = NeighbourSnapshot(*tiles(60), *tiles(20))(encoder)["neighbours/accuracy"]
        images, labels = tiles(20)
        wrong = NeighbourSnapshot(*tiles(60), images, 1 - labels)(encoder)["neighbours/accuracy"]
    assert right == 1 and wrong == 0
