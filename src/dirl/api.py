"""Every command as a function of the same name (`dirl map`: `map_slide`), on objects instead of words."""

from dirl.audit.run import audit
from dirl.cells.compare import cells_score
from dirl.cells.export import cells_export
from dirl.cells.report import cells_report
from dirl.cells.segment import cells
from dirl.check import check
from dirl.compare.run import compare
from dirl.config import (
    AuditConfig,
    CellsConfig,
    FinetuneConfig,
    MapConfig,
    MilConfig,
    PretrainRecipe,
    ProbeConfig,
    RobustConfig,
    TileConfig,
    load_recipe,
)
from dirl.demo import demo
from dirl.doctor import examine as doctor
from dirl.encoders.checkpoint import load_encoder
from dirl.evaluate.probe import probe
from dirl.export.run import export
from dirl.features.embed import embed
from dirl.features.foreign import read_foreign
from dirl.features.h5 import Features, read_features
from dirl.features.sources import SlideFiles
from dirl.features.to_anndata import write_anndata
from dirl.finetune.run import finetune
from dirl.maps.run import map_slide
from dirl.mil.run import mil
from dirl.pretrain.run import load_run, pretrain
from dirl.robust.run import robust
from dirl.store.build import tile
from dirl.store.dataset import CellStore, TileStore
from dirl.study.matrix import StudyConfig, load_study
from dirl.study.run import study
from dirl.viewer.run import view

__all__ = [
    "AuditConfig",
    "CellStore",
    "CellsConfig",
    "Features",
    "FinetuneConfig",
    "MapConfig",
    "MilConfig",
    "PretrainRecipe",
    "ProbeConfig",
    "RobustConfig",
    "SlideFiles",
    "StudyConfig",
    "TileConfig",
    "TileStore",
    "audit",
    "cells",
    "cells_export",
    "cells_report",
    "cells_score",
    "check",
    "compare",
    "demo",
    "doctor",
    "embed",
    "export",
    "finetune",
    "load_encoder",
    "load_recipe",
    "load_run",
    "load_study",
    "map_slide",
    "mil",
    "pretrain",
    "probe",
    "read_features",
    "read_foreign",
    "robust",
    "study",
    "tile",
    "view",
    "write_anndata",
]
