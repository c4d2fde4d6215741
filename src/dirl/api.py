"""Every command as a function of the same name, on objects instead of words."""

from dirl.audit.run import audit
from dirl.cells.scores import cells_score
from dirl.cells.segment import cells
from dirl.config import AuditConfig, CellsConfig, PretrainRecipe, TileConfig, load_recipe
from dirl.demo import demo
from dirl.doctor import examine as doctor
from dirl.encoders.checkpoint import load_encoder
from dirl.pretrain.run import load_run, pretrain
from dirl.store.build import tile
from dirl.store.dataset import CellStore, TileStore

__all__ = [
    "AuditConfig",
    "CellStore",
    "CellsConfig",
    "PretrainRecipe",
    "TileConfig",
    "TileStore",
    "audit",
    "cells",
    "cells_score",
    "demo",
    "doctor",
    "load_encoder",
    "load_recipe",
    "load_run",
    "pretrain",
    "tile",
]
