"""Self-supervised pretraining on H&E tissue with a cell prior, and an attention audit of any encoder.

Every command of ``dirl --help`` that makes or measures something is a function here, with the same name
(`dirl map`: `map_slide`). It takes paths, and most take a settings object, such as `TileConfig`. What a name
needs is imported when it is first used, so ``import dirl`` does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from dirl.core.errors import DirlError, DirlWarning

if TYPE_CHECKING:  # the same names for type checkers and editors
    from dirl.audit.run import audit
    from dirl.audit.slides import audit_slides
    from dirl.cells.base import Segmenter
    from dirl.cells.export import cells_export
    from dirl.cells.report.run import cells_report
    from dirl.cells.run import cells
    from dirl.cells.scoring.run import cells_score
    from dirl.check import check
    from dirl.config import (
        AuditConfig,
        CellsConfig,
        EmbedConfig,
        FinetuneConfig,
        MapConfig,
        MilConfig,
        PretrainRecipe,
        ProbeConfig,
        ReadoutsConfig,
        RobustConfig,
        TileConfig,
        TokensConfig,
        load_recipe,
    )
    from dirl.core.results import read_result
    from dirl.demo import demo
    from dirl.doctor import examine as doctor
    from dirl.encoders import measures
    from dirl.encoders.loading import LoadedEncoder, load_encoder
    from dirl.evaluate.compare.run import compare
    from dirl.evaluate.finetune.run import finetune
    from dirl.evaluate.mil.run import mil
    from dirl.evaluate.probe.run import probe
    from dirl.evaluate.readouts.run import readouts
    from dirl.evaluate.robust.run import robust
    from dirl.evaluate.tokens.run import tokens
    from dirl.export.run import export
    from dirl.features.embed import embed
    from dirl.features.external import read_external
    from dirl.features.feature_files import Features, read_features
    from dirl.features.handover import hand_over
    from dirl.features.sources import SlideFiles
    from dirl.maps.cohort import map_cohort
    from dirl.maps.run import map_slide
    from dirl.objectives import losses
    from dirl.objectives.base import Objective, PairObjective, TeacherObjective, load_objective
    from dirl.pretrain.read_run import load_run
    from dirl.pretrain.run import pretrain
    from dirl.slides.cohort_check import cohort_check
    from dirl.store.build import tile
    from dirl.store.dataset import CellStore, TileStore
    from dirl.study.matrix import StudyConfig, load_study
    from dirl.study.run import study
    from dirl.viewer.run import view

__version__ = "0.1.0"

__all__ = [
    "AuditConfig",
    "CellStore",
    "CellsConfig",
    "DirlError",
    "DirlWarning",
    "EmbedConfig",
    "Features",
    "FinetuneConfig",
    "LoadedEncoder",
    "MapConfig",
    "MilConfig",
    "Objective",
    "PairObjective",
    "PretrainRecipe",
    "ProbeConfig",
    "ReadoutsConfig",
    "RobustConfig",
    "Segmenter",
    "SlideFiles",
    "StudyConfig",
    "TeacherObjective",
    "TileConfig",
    "TileStore",
    "TokensConfig",
    "__version__",
    "audit",
    "audit_slides",
    "cells",
    "cells_export",
    "cells_report",
    "cells_score",
    "check",
    "cohort_check",
    "compare",
    "demo",
    "doctor",
    "embed",
    "export",
    "finetune",
    "hand_over",
    "load_encoder",
    "load_objective",
    "load_recipe",
    "load_run",
    "load_study",
    "losses",
    "map_cohort",
    "map_slide",
    "measures",
    "mil",
    "pretrain",
    "probe",
    "read_external",
    "read_features",
    "read_result",
    "readouts",
    "robust",
    "study",
    "tile",
    "tokens",
    "view",
]

# Packages and modules that are called as the command of their name; see `dirl.core.callable_module`.
_CALLABLE = frozenset(["audit", "cells", "check", "demo", "doctor", "export", "pretrain", "study"])
_MODULES = {"losses": "dirl.objectives.losses", "measures": "dirl.encoders.measures"}
_PLACES = {
    "AuditConfig": "dirl.config",
    "CellStore": "dirl.store.dataset",
    "CellsConfig": "dirl.config",
    "EmbedConfig": "dirl.config",
    "Features": "dirl.features.feature_files",
    "FinetuneConfig": "dirl.config",
    "LoadedEncoder": "dirl.encoders.loading",
    "MapConfig": "dirl.config",
    "MilConfig": "dirl.config",
    "Objective": "dirl.objectives.base",
    "PairObjective": "dirl.objectives.base",
    "PretrainRecipe": "dirl.config",
    "ProbeConfig": "dirl.config",
    "ReadoutsConfig": "dirl.config",
    "RobustConfig": "dirl.config",
    "Segmenter": "dirl.cells.base",
    "SlideFiles": "dirl.features.sources",
    "StudyConfig": "dirl.study.matrix",
    "TeacherObjective": "dirl.objectives.base",
    "TileConfig": "dirl.config",
    "TokensConfig": "dirl.config",
    "TileStore": "dirl.store.dataset",
    "audit_slides": "dirl.audit.slides",
    "cells_export": "dirl.cells.export",
    "cells_report": "dirl.cells.report.run",
    "cells_score": "dirl.cells.scoring.run",
    "cohort_check": "dirl.slides.cohort_check",
    "compare": "dirl.evaluate.compare.run",
    "embed": "dirl.features.embed",
    "finetune": "dirl.evaluate.finetune.run",
    "hand_over": "dirl.features.handover",
    "load_encoder": "dirl.encoders.loading",
    "load_objective": "dirl.objectives.base",
    "load_recipe": "dirl.config",
    "load_run": "dirl.pretrain.read_run",
    "load_study": "dirl.study.matrix",
    "map_cohort": "dirl.maps.cohort",
    "map_slide": "dirl.maps.run",
    "mil": "dirl.evaluate.mil.run",
    "probe": "dirl.evaluate.probe.run",
    "read_external": "dirl.features.external",
    "read_features": "dirl.features.feature_files",
    "read_result": "dirl.core.results",
    "readouts": "dirl.evaluate.readouts.run",
    "robust": "dirl.evaluate.robust.run",
    "tile": "dirl.store.build",
    "tokens": "dirl.evaluate.tokens.run",
    "view": "dirl.viewer.run",
}


def __getattr__(name: str) -> object:
    if name in _CALLABLE:
        return import_module(f"dirl.{name}")
    if name in _MODULES:
        value: object = import_module(_MODULES[name])
    elif name in _PLACES:
        value = getattr(import_module(_PLACES[name]), name)
    else:
        raise AttributeError(f"module 'dirl' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
