"""How many regions are present in both views of a tile, for nuclei and for boxes.

`python benchmarks/regions.py STORE`, a store with cells. The dense loss has a row for each region that is
present in both views. Controls with other numbers of rows give other doses. Writes results/regions.json.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from harness import write

from dirl.config import DenseConfig, PretrainRecipe, ViewsConfig
from dirl.pretrain.data import TileBatches
from dirl.prior.dense_term import make_dense_term
from dirl.store.dataset import TileStore
from dirl.views.batch import make_views

PATCH_PX = 8
BATCH = 64
BATCHES = 8
VIEWS = ViewsConfig(size_px=128, crop_area=(0.25, 1.0))
SETS = {
    "cells": DenseConfig(),
    "tissue": DenseConfig(regions="tissue"),
    "colour": DenseConfig(regions="colour"),
    "cells, control grid": DenseConfig(control="grid"),
    "tissue, control grid": DenseConfig(regions="tissue", control="grid"),
    "tissue, control matched-grid": DenseConfig(regions="tissue", control="matched-grid"),
    "grid, grid_side 2": DenseConfig(regions="grid"),
    "tissue, control grid, overlap": DenseConfig(regions="tissue", control="grid", match="overlap"),
    "grid, grid_side 2, overlap": DenseConfig(regions="grid", match="overlap"),
}


def measure(tiles: TileStore, dense: DenseConfig) -> dict[str, float]:
    """Return rows a tile, and the shares of regions present in a view and in both."""
    recipe = PretrainRecipe()
    term = make_dense_term(dense, tiles, recipe.cells, recipe.seed)
    assert term is not None
    reader = TileBatches(tiles, term.source)
    chosen = np.random.default_rng(0).choice(len(tiles), BATCH * BATCHES, replace=False)
    found = []
    for start in range(0, len(chosen), BATCH):
        keys = [(start + i, int(index)) for i, index in enumerate(chosen[start : start + BATCH])]
        images, ids, positions = reader.__getitems__(keys)
        assert ids is not None
        views = make_views(images, positions, VIEWS, seed=recipe.seed)
        share = term.coverage(ids, views, positions.numpy(), PATCH_PX)[0]
        found.append(share.mean(dim=(-2, -1)) > dense.min_area)
    present = torch.cat(found, dim=1).float()
    both = present.prod(dim=0)
    return {
        "regions": term.source.count,
        "present": present.mean().item(),
        "in_both": both.mean().item(),
        "rows_per_tile": both.sum(dim=1).mean().item(),
    }


def main() -> None:
    """Measure the sets of regions, and write the results."""
    tiles = TileStore.open(Path(sys.argv[1]))
    results = {name: measure(tiles, dense) for name, dense in SETS.items()}
    for name, row in results.items():
        print(name, {key: round(value, 3) for key, value in row.items()})
    print(write("regions", {"tiles": BATCH * BATCHES, "results": results}))


if __name__ == "__main__":
    main()
