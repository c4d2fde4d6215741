"""Snapshots of an encoder in training, on the same tiles: its attention entropy and kNN accuracy."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders.attention import attention_rows
from dirl.encoders.measures import normalised_entropy, renormalise
from dirl.encoders.vit import ViT
from dirl.features.knn import knn_predict
from dirl.store.dataset import TileStore

Snapshot = Callable[[ViT], dict[str, float]]
"""Measures an encoder: values by the name of the metric."""

ATTENTION_TILES = 64
TRAIN_TILES, TEST_TILES = 512, 256
NEIGHBOURS = 20
BATCH = 32


@dataclass(frozen=True)
class AttentionSnapshot:
    """The audit's primary measure on held-out tiles, uint8 ``(t, 3, h, w)`` with sides of whole patches."""

    images: Tensor

    def __call__(self, encoder: ViT) -> dict[str, float]:
        """Return the entropy of the joint map, and per head."""
        entropies = []
        for images in torch.split(self.images, BATCH):
            pixels = (images.to(encoder.mean.device).float() / 255 - encoder.mean) / encoder.std
            last = attention_rows(encoder.vit, pixels).patches[:, -1].flatten(2)
            _, heads = renormalise(last)
            _, together = renormalise(last.mean(dim=1))
            entropies.append((normalised_entropy(heads).mean(dim=1), normalised_entropy(together)))
        per_head, joint = (torch.cat(list(part)).mean().item() for part in zip(*entropies, strict=True))
        return {"attention/entropy_joint": joint, "attention/entropy_per_head": per_head}


@dataclass(frozen=True)
class NeighbourSnapshot:
    """Balanced accuracy of 20 nearest neighbours: held-out tiles among training tiles, by their labels.

    It shows a trend within a run and is not a result: tiles of a slide may be in both sets, see `dirl probe`.
    """

    train: Tensor
    train_labels: NDArray[np.int64]
    test: Tensor
    test_labels: NDArray[np.int64]

    def __call__(self, encoder: ViT) -> dict[str, float]:
        """Return the balanced accuracy."""
        found = knn_predict(
            _class_tokens(encoder, self.train),
            self.train_labels,
            _class_tokens(encoder, self.test),
            NEIGHBOURS,
        )
        right = [(found == label)[self.test_labels == label].mean() for label in np.unique(self.test_labels)]
        return {"neighbours/accuracy": float(np.mean(right))}


def choose_snapshots(
    tiles: TileStore, out: NDArray[np.bool_], seed: int, view_px: int, patch_px: int
) -> list[Snapshot]:
    """Choose the snapshots that the tiles allow: there may be no held-out tiles, and no labels.

    `out` (tiles,) tells which tiles are held out. `seed` is the key of the choice of labelled tiles.
    """
    free, trained = np.flatnonzero(out), np.flatnonzero(~out)
    snapshots: list[Snapshot] = []
    if len(free):
        snapshots.append(
            AttentionSnapshot(_middles(tiles, free[:ATTENTION_TILES], tiles.spec.size_px, patch_px))
        )
    codes = np.unique(tiles.labels, return_inverse=True)[1]
    labelled = tiles.labels != ""
    draw = np.random.default_rng(seed).permutation
    test, train = (draw(rows[labelled[rows]]) for rows in (free, trained))
    test, train = test[:TEST_TILES], train[:TRAIN_TILES]
    if len(np.unique(codes[train])) > 1 and len(test):
        # The middle of a tile, as large as a view: near the resolution that the encoder is trained on.
        side = min(view_px, tiles.spec.size_px)
        snapshots.append(
            NeighbourSnapshot(
                _middles(tiles, train, side, patch_px),
                codes[train],
                _middles(tiles, test, side, patch_px),
                codes[test],
            )
        )
    return snapshots


def _middles(tiles: TileStore, rows: NDArray[np.int64], side: int, patch_px: int) -> Tensor:
    whole = side // patch_px * patch_px
    start = (tiles.spec.size_px - whole) // 2
    part = slice(start, start + whole)
    return torch.from_numpy(np.stack([tiles.image(int(i))[part, part] for i in rows])).permute(0, 3, 1, 2)


def _class_tokens(encoder: ViT, images: Tensor) -> NDArray[np.float32]:
    parts = [
        encoder(batch.to(encoder.mean.device).float() / 255).cls.float().cpu().numpy()
        for batch in torch.split(images, BATCH)
    ]
    return np.concatenate(parts)
