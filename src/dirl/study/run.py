"""`dirl study`: a matrix of runs, one after another or side by side, and one table of them all."""

import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dirl.card import claim, finish, new_card
from dirl.config import load_recipe
from dirl.errors import DirlError, PartlyFailedError, StoreError
from dirl.files import read_json, replacing, write_json, write_text
from dirl.objectives.load import load_objective
from dirl.parallel import each
from dirl.store.dataset import TileStore
from dirl.study import one
from dirl.study.figures import draw
from dirl.study.matrix import StudyConfig, StudyRun, expand, load_study
from dirl.study.spread import slots, spread
from dirl.study.summary import summarise
from dirl.study.table import to_csv, to_markdown


@dataclass(frozen=True)
class StudyResult:
    """A study's outcome.

    Attributes
    ----------
    path
        Its directory: ``table.md``, ``table.csv``, ``summary.json``, ``figures/``, ``results/``, ``runs/``,
        ``audits/``, ``features/``, ``probes/``, ``card.json``.
    summary
        What ``summary.json`` holds; see `dirl.study.summary.summarise`.
    """

    path: Path
    summary: dict[str, Any]


def study(
    spec: str | Path | StudyConfig,
    store: Path,
    out: Path,
    *,
    device: str = "auto",
    workers: int = 0,
    parallel: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> StudyResult:
    """Train, audit and score every run of a matrix, and put them in one table.

    A finished run is never done again; the same command goes on where it stopped, and tries what failed
    once more. A run trains on one device: one that is to train on several is for `dirl pretrain`.

    Parameters
    ----------
    spec
        A study's YAML file, the name of one that ships, or its settings.
    store
        A tile store with cells.
    out
        Directory of the study.
    device
        ``auto``, ``cpu`` or ``cuda``.
    workers
        Processes that read tiles, per run.
    parallel
        Runs at a time, over the visible GPUs in turn, or each with its share of the cores; None is one for
        each GPU, or one.
    overwrite
        Replace a study of other settings, with all its runs.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If the study is not sound.
    StoreError
        If the store lacks tiles or cells, or `out` holds another study.
    PartlyFailedError
        If runs failed. The others are finished, and the table is of them.
    """
    config = spec if isinstance(spec, StudyConfig) else load_study(spec)
    runs = expand(config)
    for run in runs:
        load_objective(run.recipe.objective)  # refuses settings that it does not have
    tiles = TileStore.open(store)
    cells = tiles.cells(config.audit.cells)
    # What the recipe holds counts, not where it lies.
    settings = config.model_dump(mode="json", exclude={"recipe"})
    settings["base"] = load_recipe(config.recipe).model_dump(mode="json")
    inputs = {"store": tiles.digest, "tiling": tiles.card.digest, "cells": cells.card.digest}
    card = claim(out, new_card("study", settings, inputs), overwrite=overwrite)
    if card.finished:
        return load_result(out)

    places = slots(device, parallel)
    together = len(places) > 1
    pending = [
        one.Job(run, store, out, config.audit, config.probe, device, workers, quiet or together)
        for run in runs
        if not _done(_row_path(out, run))
    ]
    carried = spread(one.carry_out, pending, places) if together else each(one.carry_out, pending)
    finished = len(runs) - len(pending)
    failures: dict[str, DirlError] = {}
    for job, outcome in carried:
        finished += 1
        row = outcome if not isinstance(outcome, Exception) else _failed(job.run, outcome)
        write_json(_row_path(out, job.run), row)
        if isinstance(outcome, Exception):
            failures[job.run.name] = _explained(job.run, outcome)
        if not quiet:
            told = "failed" if row["failed"] else f"entropy {row['measures']['entropy']:.3f}"
            Console(stderr=True).print(f"{finished}/{len(runs)} {job.run.name}: {told}", markup=False)

    summary = summarise(config, [read_json(_row_path(out, run)) for run in runs])
    write_json(out / "summary.json", summary)
    write_text(out / "table.csv", to_csv(summary))
    write_text(out / "table.md", to_markdown(summary))
    curves = {run.name: out / "runs" / run.name / "metrics.csv" for run in runs}
    for name, data in draw(summary, {name: path for name, path in curves.items() if path.exists()}).items():
        with replacing(out / "figures" / name) as temporary:
            temporary.write_bytes(data)
    if failures:
        raise PartlyFailedError(failures, len(runs) - len(failures))
    finish(out, card, {"runs": len(runs)})
    return StudyResult(out, summary)


def load_result(path: Path) -> StudyResult:
    """Open a study that has its table.

    Raises
    ------
    StoreError
        If it has none yet.
    """
    with suppress(FileNotFoundError):
        return StudyResult(path, read_json(path / "summary.json"))
    raise StoreError("holds no summary.json", where=path, remedy="run the same `dirl study` to its end")


def _row_path(out: Path, run: StudyRun) -> Path:
    return out / "results" / f"{run.name}.json"


def _done(path: Path) -> bool:
    return path.exists() and not read_json(path)["failed"]


def _failed(run: StudyRun, error: Exception) -> dict[str, Any]:
    place = {"run": run.name, "objective": run.objective, "arm": run.arm, "seed": run.seed, "kind": run.kind}
    found: dict[str, Any] = {"failed": str(_explained(run, error)), "gate": None, "measures": {}, "notes": []}
    if not isinstance(error, DirlError):  # nobody may be watching: what went wrong is kept
        found["traceback"] = traceback.format_exception(error)
    return place | found


def _explained(run: StudyRun, error: Exception) -> DirlError:
    if isinstance(error, DirlError):
        return error
    text = " ".join(str(error).split()) or "no message"
    return DirlError(f"unexpected {type(error).__name__}: {text}", where=run.name)
