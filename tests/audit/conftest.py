"""A small store of synthetic tiles with their true nuclei, and two untrained runs on it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from dirl.config import CellsConfig, PretrainRecipe, TileConfig, ViewsConfig
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.synthetic import write


def make_store(folder: Path, *, side_px: int, tile_px: int, seed: int = 0) -> Path:
    slide = folder / "synthetic.tiff"
    drawn = write(slide, seed, (side_px, side_px))
    tile([slide], folder / "store", TileConfig(size_px=tile_px, min_tissue=0.3), quiet=True)
    store = TileStore.open(folder / "store")
    tissue = drawn.rgb.min(axis=2) < 225
    items = []
    for tile_id, x, y in zip(*(store.index[c].to_pylist() for c in ("tile_id", "x", "y")), strict=True):
        here = np.s_[y : y + tile_px, x : x + tile_px]
        labels = drawn.labels[here]
        items.append((tile_id, labels, np.where(labels > 0, 1, 2 * tissue[here])))
    area = np.bincount(drawn.labels.ravel())
    ids = np.flatnonzero(area[1:]) + 1
    nothing = np.zeros(len(ids), np.float32)
    nuclei = {
        "id": ids,
        "x": nothing,
        "y": nothing,
        "area_um2": area[ids] * 0.25,
        "touches_border": nothing > 0,
    }
    claimed = claim(
        cells_dir(store.path, "truth"), new_card("cells", CellsConfig(segmenter="truth").model_dump())
    )
    write_cells(store.path, "truth", store.slide_ids[0], items, nuclei)
    merge_cells(store.path, "truth")
    finish(cells_dir(store.path, "truth"), claimed, {"nuclei": len(ids)})
    return store.path


def make_run(
    folder: Path, store: Path, *, seed: int, losses: tuple[float, ...], sharpness: float = 1.0
) -> Path:
    arguments: dict[str, Any] = {"img_size": 48, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
    torch.manual_seed(seed)
    model: Any = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **arguments)
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.weight.mul_(10 * sharpness)
    (folder / "encoder").mkdir(parents=True)
    save_file(model.state_dict(), folder / "encoder" / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_features": 48,
        "model_args": arguments,
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 48, 48]},
    }
    (folder / "encoder" / "config.json").write_text(json.dumps(config))
    rows = "".join(f"{step},{loss}\n" for step, loss in enumerate(losses))
    (folder / "metrics.csv").write_text(f"step,loss\n{rows}")
    recipe = PretrainRecipe(holdout=0.5, seed=seed, views=ViewsConfig(size_px=48))
    card = new_card("pretrain", recipe.model_dump(mode="json"), {"tiling": TileStore.open(store).card.digest})
    (folder / "card.json").write_text(json.dumps(asdict(card)))
    return folder


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("audit"), side_px=768, tile_px=64)


@pytest.fixture(scope="session")
def runs(store: Path) -> tuple[Path, Path]:
    falling = (5.0, 4.0, 3.0, 2.0, 1.0)
    folder = store.parent
    return (
        make_run(folder / "vanilla", store, seed=0, losses=falling),
        make_run(folder / "dirl", store, seed=0, losses=falling, sharpness=0.5),
    )
