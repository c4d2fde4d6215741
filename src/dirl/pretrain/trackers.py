"""Trackers that can follow a run beside its `metrics.csv`; each is an extra."""

import importlib.util
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger

from dirl.core.boundary import parsing
from dirl.core.digests import digest
from dirl.core.errors import ConfigError


def check_tracker(name: str) -> None:
    """Refuse an unknown tracker, and one that is not installed.

    Raises
    ------
    ConfigError
        If there is no tracker of this name, or its extra is not installed.
    """
    if name not in TRACKERS:
        remedy = f"use {' or '.join(TRACKERS)}; metrics.csv and TensorBoard are always written"
        raise ConfigError("no such tracker", where=f"logger {name}", remedy=remedy)
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"needs {name}", where=f"logger {name}", remedy=f"pip install 'dirl[{name}]'")


def make_tracker(name: str, out: Path, started: str) -> Logger:
    """Make the tracker of a run.

    The tracker's own environment variables set its address and login. The project is ``dirl`` unless they
    name one. A resumed run continues in W&B; in MLflow it is a new run of the same name.

    Parameters
    ----------
    name
        ``wandb`` or ``mlflow``, which is also the extra that it needs.
    out
        Directory of the run.
    started
        When the run began, from its card.

    Raises
    ------
    ConfigError
        If the tracker refuses the address or the login of its environment, with its own message.
    """
    with parsing(f"logger {name}", remedy=REMEDIES[name], kind=ConfigError, what=f"{name} refuses"):
        tracker = TRACKERS[name](out, started)
        _ = tracker.experiment  # connects now, and not at the first step
        return tracker


def _wandb(out: Path, started: str) -> WandbLogger:
    # The id continues a resumed run, but not a run that replaces another.
    project = os.environ.get("WANDB_PROJECT", "dirl")
    name = digest(f"{out.resolve()} {started}")
    return WandbLogger(name=out.name, project=project, id=name, save_dir=out)


def _mlflow(out: Path, started: str) -> MLFlowLogger:
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", "dirl")
    # MLflow's own default. Newer versions refuse Lightning's default, a folder.
    place = os.environ.get("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    return MLFlowLogger(experiment_name=experiment, run_name=out.name, tracking_uri=place)


REMEDIES = {
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server or a database, such as sqlite:///mlflow.db",
}
TRACKERS: Mapping[str, Callable[[Path, str], WandbLogger | MLFlowLogger]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
}
