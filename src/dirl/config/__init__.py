"""What a user writes: one strict model per stage, recipes in YAML, and ``--set key=value`` on top."""

from dirl.config.pretrain import (
    MAX_REGIONS,
    DenseConfig,
    EncoderConfig,
    EntropyConfig,
    NoiseConfig,
    ObjectiveConfig,
    OptimiserConfig,
    Precision,
    PretrainRecipe,
    ViewsConfig,
)
from dirl.config.read import load_recipe, read_settings, to_yaml
from dirl.config.settings import Count, Positive, Settings, Share, make
from dirl.config.stages import (
    LABEL_COLUMNS,
    AuditConfig,
    CellsConfig,
    FinetuneConfig,
    MapConfig,
    MilConfig,
    ProbeConfig,
    RobustConfig,
    TileConfig,
)

__all__ = [
    "LABEL_COLUMNS",
    "MAX_REGIONS",
    "AuditConfig",
    "CellsConfig",
    "Count",
    "DenseConfig",
    "EncoderConfig",
    "EntropyConfig",
    "FinetuneConfig",
    "MapConfig",
    "MilConfig",
    "NoiseConfig",
    "ObjectiveConfig",
    "OptimiserConfig",
    "Positive",
    "Precision",
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
