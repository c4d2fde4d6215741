"""A store of ready-made tiles of two classes, and an untrained run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from dirl.config import TileConfig
from dirl.store.build import tile


@pytest.fixture(scope="session")
def tile_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features")
    generator = np.random.default_rng(0)
    for name, count, colour in (("pink", 9, (220, 150, 190)), ("violet", 5, (120, 60, 160))):
        (folder / "tiles" / name).mkdir(parents=True)
        for i in range(count):
            noise = generator.integers(-30, 30, (32, 32, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / "tiles" / name / f"{i}.png")
    tile([folder / "tiles"], folder / "store", TileConfig(mpp_override=0.5), quiet=True)
    return folder / "store"


@pytest.fixture(scope="session")
def encoder_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    arguments: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}
    torch.manual_seed(5)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, dynamic_img_size=True, **arguments)
    (run / "encoder").mkdir()
    save_file(model.state_dict(), run / "encoder" / "model.safetensors")
    config = {
        "architecture": "vit_tiny_patch16_224",
        "num_features": 24,
        "model_args": arguments,
        "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]},
    }
    (run / "encoder" / "config.json").write_text(json.dumps(config))
    return run
