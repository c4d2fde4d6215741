"""A finished run without training: what `dirl export` reads of one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dirl.config import PretrainRecipe, make
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.files import write_text
from dirl.encoders.vit import ViT

ENCODER = {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 48, "depth": 2, "heads": 3}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Write a run whose encoder has these settings, its weights far from their start."""

    def write(
        folder: str = "run",
        /,
        finished: bool = True,
        tile_px: int = 48,
        view_px: int = 32,
        **encoder: Any,
    ) -> Path:
        values = {
            "encoder": ENCODER | encoder,
            "views": {"size_px": view_px},
            "dense": {"control": "shuffled"},
        }
        recipe = make(PretrainRecipe, values)
        torch.manual_seed(2)
        vit = ViT(recipe.encoder, view_px).eval()
        for parameter in vit.parameters():
            nn.init.normal_(parameter, std=0.2)
        out = tmp_path / folder
        inputs = {"store": "0123456789abcdef"}
        card = claim(out, new_card("pretrain", recipe.model_dump(mode="json"), inputs))
        vit.save(out / "encoder", tile_px)
        write_text(out / "metrics.csv", "step,loss,gate\n1,3.5,\n2,2.25,0.5\n")
        if finished:
            finish(out, replace(card, git_commit="c0ffee"), {"steps": 2, "mpp": 0.5})
        return out

    return write
