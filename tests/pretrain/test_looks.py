"""What a run looks at: held-out tiles only, and neighbours where there are labels."""

import numpy as np
import torch

from dirl.config import EncoderConfig
from dirl.encoders.vit import ViT
from dirl.pretrain.snapshots import NeighbourLook, choose_looks
from dirl.store.dataset import TileStore


def test_without_labels_only_attention_is_looked_at(small_store, recipe):
    looks = choose_looks(recipe, TileStore.open(small_store), 8)
    encoder = ViT(recipe.encoder, 32).eval()
    with torch.no_grad():
        seen = {key for look in looks for key in look(encoder)}
    assert seen == {"attention/entropy", "attention/entropy_of_mean"}


def test_neighbours_tell_two_colours_apart():
    rng = np.random.default_rng(0)

    def tiles(count):
        labels = np.arange(count) % 2
        images = rng.integers(0, 60, (count, 3, 16, 16)).astype(np.uint8)
        images[labels == 1] += 150
        return torch.from_numpy(images), labels

    encoder = ViT(
        EncoderConfig(name="vit_tiny_patch16_224", patch_px=8, width=32, depth=1, heads=2), 16
    ).eval()
    with torch.no_grad():
        right = NeighbourLook(*tiles(60), *tiles(20))(encoder)["neighbours/accuracy"]
        images, labels = tiles(20)
        wrong = NeighbourLook(*tiles(60), images, 1 - labels)(encoder)["neighbours/accuracy"]
    assert right == 1 and wrong == 0
