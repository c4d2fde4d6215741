"""Fixtures that several test files share."""

import os
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from dirl import synthetic
from dirl.card import claim, finish, new_card
from dirl.config import PretrainRecipe, TileConfig, make
from dirl.store.build import tile
from dirl.store.cells import cells_dir, merge_cells, write_cells

# No test may fail because the machine is busy.
hypothesis.settings.register_profile("dirl", deadline=None)
hypothesis.settings.load_profile("dirl")

RECIPE = {
    "steps": 6,
    "batch": 8,
    "checkpoint_every_steps": 2,
    "log_every_steps": 1,
    "views": {"size_px": 32},
    "encoder": {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 32, "depth": 2, "heads": 2},
    "objective": {"hidden_width": 16, "output_width": 8},
}


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real slides and tiles; the test is skipped where there is none."""
    named = os.environ.get("DIRL_DATA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: set DIRL_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def small_store(tmp_path_factory):
    """Tiles of 64 px of a synthetic slide of 512 px, with the true nuclei as ``hematoxylin``."""
    folder = tmp_path_factory.mktemp("small")
    slide = synthetic.write(folder / "slide.tif", seed=1, size_px=(512, 512))
    config = TileConfig(size_px=64, min_tissue=0.3)
    store = tile([folder / "slide.tif"], folder / "store", config, quiet=True)
    index = store.index.select(["tile_id", "x", "y"]).to_pylist()

    def items():
        for row in index:
            labels = slide.labels[row["y"] : row["y"] + 64, row["x"] : row["x"] + 64]
            yield row["tile_id"], labels, np.where(labels > 0, 1, 2).astype(np.uint8)

    path = cells_dir(store.path, "hematoxylin")
    card = claim(path, new_card("cells", {}))
    pixels = np.bincount(slide.labels.ravel())
    ids = np.flatnonzero(pixels[1:]) + 1
    nothing = np.zeros(len(ids), np.float32)
    nuclei = {"id": ids, "x": nothing, "y": nothing, "area_um2": pixels[ids] * config.mpp**2}
    nuclei["touches_border"] = nothing > 0
    write_cells(store.path, "hematoxylin", "slide", items(), nuclei)
    merge_cells(store.path, "hematoxylin")
    finish(path, card, {})
    return store.path


@pytest.fixture(scope="session")
def recipe() -> PretrainRecipe:
    """Six steps of a tiny DiRL."""
    return make(PretrainRecipe, RECIPE)
