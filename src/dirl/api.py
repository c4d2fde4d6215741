"""Every command as a function of the same name (`dirl map`: `map_slide`), on objects instead of words."""

from dirl.audit.run import audit
from dirl.cells.files.export import cells_export
from dirl.cells.report.run import cells_report
from dirl.cells.run import cells
from dirl.cells.scoring.run import cells_score
from dirl.check import check
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
from dirl.encoders.loading import load_encoder
from dirl.evaluate.compare.run import compare
from dirl.evaluate.finetune.run import finetune
from dirl.evaluate.mil.run import mil
from dirl.evaluate.probe.run import probe
from dirl.evaluate.robust.run import robust
from dirl.export.run import export
from dirl.features.embed import embed
from dirl.features.external import read_foreign
from dirl.features.feature_files import Features, read_features
from dirl.features.sources import SlideFiles
from dirl.features.to_anndata import write_anndata
from dirl.maps.run import map_slide
from dirl.pretrain.run import load_run, pretrain
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
