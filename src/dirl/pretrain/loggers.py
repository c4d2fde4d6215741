"""Where a run's metrics go: `metrics.csv`, TensorBoard's files, and trackers.

`metrics.csv` has one row per logged step and survives interruptions. Each tracker is an extra.
"""

import csv
import importlib.util
import os
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from dirl.core.boundary import parsing
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.core.files import replacing
from dirl.core.full_disk import writing
from dirl.pretrain.read_run import read_metrics

TrackerName = Literal["wandb", "mlflow"]


class MetricsCsv(Logger):
    """Append metrics to a CSV file with one column per metric.

    Rows of steps after `start` are removed: an interrupted run wrote them after its last checkpoint.
    """

    def __init__(self, path: Path, start: int) -> None:
        super().__init__()
        self.path = path
        self.columns = ["step"]
        rows = [row for row in read_metrics(path) if row["step"] <= start] if path.exists() else []
        for row in rows:
            self._add_columns(row)
        self._rewrite(rows)

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "csv"

    @property
    def version(self) -> str:
        """A run has one log."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the recipe is in a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a row."""
        row = {"step": float(step or 0)} | {k: float(v) for k, v in metrics.items() if k != "epoch"}
        if self._add_columns(row):
            self._rewrite(read_metrics(self.path))
        with writing(self.path), self.path.open("a", newline="") as handle:
            csv.writer(handle).writerow(self._cells(row))
            handle.flush()
            os.fsync(handle.fileno())  # before the checkpoint of the same step

    def _add_columns(self, row: Mapping[str, float]) -> bool:
        fresh = [name for name in row if name not in self.columns]
        self.columns += fresh
        return bool(fresh)

    def _cells(self, row: Mapping[str, float]) -> list[str]:
        return [f"{row[c]:.6g}" if c in row else "" for c in self.columns]

    @rank_zero_only
    def _rewrite(self, rows: list[dict[str, float]]) -> None:
        with replacing(self.path) as temporary, temporary.open("w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(self.columns)
            writer.writerows(self._cells(row) for row in rows)


class EventFiles(TensorBoardLogger):
    """TensorBoard's event files, with our message if they cannot be written."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Hand a step's metrics to the thread that writes; an earlier failure of it is raised here."""
        with writing(Path(self.log_dir)):
            super().log_metrics(metrics, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the files. After a failed run their own failure would hide its cause, so it is ignored."""
        if status != "success":
            with suppress(OSError):
                super().finalize(status)
            return
        with writing(Path(self.log_dir)):
            super().finalize(status)


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Hide the traceback of TensorBoard's thread: the next call raises its failure here."""
    shown = threading.excepthook

    def hook(failed: threading.ExceptHookArgs) -> None:
        if type(failed.thread).__name__ != "_AsyncWriterThread":
            shown(failed)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = shown


def check_tracker(name: TrackerName) -> None:
    """Refuse an unknown tracker, and one whose extra is not installed."""
    if name not in TRACKERS:
        remedy = f"use {' or '.join(TRACKERS)}; metrics.csv and TensorBoard are always written"
        raise ConfigError("no such tracker", where=f"logger {name}", remedy=remedy)
    if importlib.util.find_spec(name) is None:
        raise ConfigError(f"needs {name}", where=f"logger {name}", remedy=f"pip install 'dirl[{name}]'")


def make_tracker(name: TrackerName, out: Path, started: str) -> Logger:
    """Make the tracker of the run in `out`, which began at `started` by its card.

    The tracker's own environment variables set its address and login; if it refuses them, that is a
    `ConfigError`. The project is ``dirl`` unless they name one. A resumed run continues in W&B; in MLflow it
    is a new run of the same name.
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


REMEDIES: Mapping[TrackerName, str] = {
    "wandb": "log in with `wandb login`, or set WANDB_MODE=offline",
    "mlflow": "set MLFLOW_TRACKING_URI to a server or a database, such as sqlite:///mlflow.db",
}
TRACKERS: Mapping[TrackerName, Callable[[Path, str], WandbLogger | MLFlowLogger]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
}
