"""Read the directory of a run. Neither Lightning nor code for training is imported."""

import csv
from dataclasses import dataclass
from pathlib import Path

from dirl.config import PretrainRecipe, make
from dirl.core.boundary import parsing
from dirl.core.card import read_card
from dirl.core.checked import checked
from dirl.core.errors import StoreError
from dirl.core.layout import CARD


@dataclass(frozen=True)
class Run:
    """A pretraining run.

    Attributes
    ----------
    path
        Its directory: ``encoder/``, ``recipe.yaml``, ``metrics.csv``, ``last.ckpt``, ``card.json``. With
        ``select`` the numbers of the tiles are in ``selection.json``.
    steps
        Steps trained.
    finished
        Whether these are all steps; else the same call continues the run.
    metrics
        The last value of every metric.
    """

    path: Path
    steps: int
    finished: bool
    metrics: dict[str, float]


def load_run(path: Path) -> Run:
    """Open a finished run.

    Raises
    ------
    StoreError
        If it is not a run, or not finished.
    """
    card = read_card(path, "pretrain")
    if not card.finished:
        raise StoreError("this run is not finished", where=path, remedy="run the same `dirl pretrain` again")
    return Run(path, int(card.counts["steps"]), True, last_metrics(path))


def read_recipe(run: Path) -> PretrainRecipe:
    """Read the recipe of a run, with all settings of its objective."""
    return make(PretrainRecipe, read_card(run, "pretrain").config, where=run / CARD)


def last_metrics(run: Path) -> dict[str, float]:
    """Last value of every metric in a run's `metrics.csv`."""
    merged: dict[str, float] = {}
    for row in read_metrics(checked(run, "metrics.csv")):
        merged |= row
    return merged


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read `metrics.csv`: one mapping per row, without the metrics that were not logged at that step.

    Without a file there are no rows. A last row that a crash cut short is left out.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    if not path.exists():  # nothing was logged yet
        return []
    with parsing(path, remedy="remove it; the rest of the run is logged in a new file"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        header, *rows = csv.reader([line for line in lines if line.endswith("\n")], strict=True)
        if header[:1] != ["step"] or len({*header}) < len(header):
            raise ValueError(f"it begins with {','.join(header)[:80]} instead of step")
        return [
            {name: float(value) for name, value in zip(header, row, strict=True) if value} for row in rows
        ]
