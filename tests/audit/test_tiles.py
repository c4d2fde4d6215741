"""Tiles of an audit, and nuclei as weights over tokens."""

from pathlib import Path

import numpy as np
import torch

from dirl.audit.estimates import choose_examples
from dirl.audit.passes import TileMeasures
from dirl.audit.table import COLUMNS
from dirl.audit.tiles import batch_weights, draw_tiles, nucleus_weights
from dirl.encoders.loading import load_encoder
from dirl.features.pooling import region_shares
from dirl.store.dataset import TileStore


def test_weights_of_nuclei() -> None:
    labels = torch.zeros(4, 6, dtype=torch.int32)
    labels[0, :3] = 7  # two pixels in token 0, one in token 1
    labels[3, 5] = 9
    least = torch.zeros(10)
    found = nucleus_weights(labels, 2, least)
    assert torch.equal(found, torch.tensor([[2 / 3, 1 / 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]]))
    least[9] = 2  # half of it would be two pixels: it lies mostly outside
    assert nucleus_weights(labels, 2, least).shape == (1, 6)
    assert nucleus_weights(torch.zeros_like(labels), 2, least).shape == (0, 6)


def test_a_seeded_draw_without_replacement(store: Path) -> None:
    tiles = TileStore.open(store)
    cells = tiles.cells("truth")
    drawn = draw_tiles(tiles, cells, 10, seed=1)
    assert len(set(drawn.indices.tolist())) == 10
    assert np.array_equal(drawn.indices, draw_tiles(tiles, cells, 10, seed=1).indices)
    assert not np.array_equal(drawn.indices, draw_tiles(tiles, cells, 10, seed=2).indices)
    assert len(draw_tiles(tiles, cells, 10**6, seed=0)) == len(tiles)
    sizes = [len(batch.indices) for batch in draw_tiles(tiles, cells, 20, seed=0)]
    assert sizes == [16, 4]


def test_coverage_and_weights_of_both_kinds_of_encoder(store: Path, runs: tuple[Path, Path]) -> None:
    tiles = TileStore.open(store)
    drawn = draw_tiles(tiles, tiles.cells("truth"), 16, seed=0)
    batch = next(iter(drawn))
    for spec, tokens in ((str(runs[0]), 64), ("timm:vit_tiny_patch16_224,weights=random", 196)):
        encoder = load_encoder(spec)
        covered = region_shares(encoder, batch.regions)
        assert covered.shape == (16, 3, tokens)
        torch.testing.assert_close(covered.sum(1), torch.ones(16, tokens))
        torch.testing.assert_close(
            covered[:, 0].mean(1), (batch.regions == 1).float().mean((1, 2)), atol=0.01, rtol=0
        )
        weights = batch_weights(encoder, drawn, batch)
        assert sum(len(w) for w in weights) > 16
        for weight, labels in zip(weights, batch.labels, strict=True):
            torch.testing.assert_close(weight.sum(1), torch.ones(len(weight)))
            assert len(weight) <= len(labels.unique()) - 1


class Fixed(TileMeasures):
    """Stands for measured encoders whose primary measure is given."""

    def __init__(self, values: list[float]) -> None:
        given = np.array(values)[:, None, None, None]
        object.__setattr__(self, "views", np.broadcast_to(given, (len(values), 1, 2, len(COLUMNS))))


def test_examples_are_chosen_by_rule() -> None:
    first, second = Fixed([0.5] * 7), Fixed([0.5, 0.9, 0.6, 0.4, 0.55, 0.52, 0.7])
    assert choose_examples([first, second], 3) == [("highest", 1), ("median", 4), ("lowest", 3)]
    assert [place for _, place in choose_examples([first, second], 6)] == [1, 6, 4, 5, 3, 0]
    assert choose_examples([second], 3) == [("highest", 1), ("median", 4), ("lowest", 3)]
    assert len(choose_examples([first, second], 99)) == 7
    assert choose_examples([first, second], 0) == []
