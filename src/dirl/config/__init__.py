"""What a user writes: one strict model per stage, recipes in YAML, and ``--set key=value`` on top."""

from dirl.config.attention import AuditConfig, MapConfig
from dirl.config.evaluate import (
    FinetuneConfig,
    MilConfig,
    ProbeConfig,
    RobustConfig,
)
from dirl.config.pretrain import (
    DenseConfig,
    EncoderConfig,
    NoiseConfig,
    ObjectiveConfig,
    OptimiserConfig,
    PretrainRecipe,
    ViewsConfig,
)
from dirl.config.read import load_recipe, read_settings, to_yaml
from dirl.config.settings import Count, Positive, Settings, Share, make
from dirl.config.tiles import CellsConfig, TileConfig

__all__ = [
    "AuditConfig",
    "CellsConfig",
    "Count",
    "DenseConfig",
    "EncoderConfig",
    "FinetuneConfig",
    "MapConfig",
    "MilConfig",
    "NoiseConfig",
    "ObjectiveConfig",
    "OptimiserConfig",
    "Positive",
    "PretrainRecipe",
    "ProbeConfig",
    "RobustConfig",
    "Settings",
    "Share",
    "TileConfig",
    "ViewsConfig",
    "load_recipe",
    "make",
    "read_settings",
    "to_yaml",
]
