"""`dirl study`: a matrix of runs, one after another or side by side, and one table of them all."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dirl.config import load_recipe
from dirl.core.checked import SUMMARY, checked, read_summary
from dirl.core.errors import (
    ConfigError,
    DirlError,
    Interrupted,
    PartlyFailedError,
    StoreError,
    TrainingError,
    explained,
)
from dirl.core.files import no_room, read_json, replacing, write_json, write_text
from dirl.core.owner import owning
from dirl.core.parallel import each
from dirl.core.provenance import claim, digest, finish, new_card
from dirl.evaluate.common.labelled_tiles import prepare_task
from dirl.evaluate.common.labels import labels_file, read_labels
from dirl.features.subsample import subsample_tiles
from dirl.objectives.registry import load_objective
from dirl.pretrain.checks import check
from dirl.prior.dense_term import make_dense_term
from dirl.report.html import number
from dirl.store.dataset import TileStore
from dirl.study import run_arm
from dirl.study.figures import draw
from dirl.study.matrix import StudyConfig, StudyRun, expand, load_study
from dirl.study.scheduler import slots, spread
from dirl.study.summary import summarise
from dirl.study.table import to_csv, to_markdown


@dataclass(frozen=True)
class StudyResult:
    """A study's outcome.

    Attributes
    ----------
    path
        Its directory: ``table.md``, ``table.csv``, ``summary.json``, ``figures/``, ``results/``, ``runs/``,
        ``audits/``, ``features/``, ``probes/``, ``robust/``, ``card.json``.
    summary
        What ``summary.json`` holds; see `dirl.study.summary.summarise`.
    """

    path: Path
    summary: dict[str, Any]


@owning
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
        If the study is not sound, or asks for what an objective or the store does not give.
    StoreError
        If a store lacks tiles or cells, or `out` holds another study.
    PartlyFailedError
        If runs failed. The others are finished, and the table is of them.
    """
    config = spec if isinstance(spec, StudyConfig) else load_study(spec)
    out = out.resolve()  # cards name its folders: another spelling is the same study
    labels = labels_file(config.probe.labels) if config.probe else None
    if config.probe:  # by their full paths: the same study, wherever it is called from
        named = {"labels": labels, "store": config.probe.store and Path(config.probe.store)}
        full = {key: str(path.resolve()) for key, path in named.items() if path}
        config = config.model_copy(update={"probe": config.probe.model_copy(update=full)})
    runs = expand(config)
    tiles = TileStore.open(store)
    cells = tiles.cells(config.audit.cells)
    _check(runs, config.seeds[0], tiles)
    if overwrite or not (out / "card.json").exists():
        _check_scored(config, tiles, quiet)  # once: all scored tiles are read
    # What the recipe holds counts, not where it lies.
    settings = config.model_dump(mode="json", exclude={"recipe"})
    settings["base"] = load_recipe(config.recipe).model_dump(mode="json")
    inputs = {"store": tiles.digest, "tiling": tiles.card.digest, "cells": cells.card.digest}
    if labels:
        inputs["labels"] = digest(labels)
    if config.probe and config.probe.store:
        inputs["probe store"] = TileStore.open(Path(config.probe.store)).digest
    card = claim(out, new_card("study", settings, inputs), overwrite=overwrite)
    if card.finished:
        return load_result(out)

    places = slots(device, parallel)
    together = len(places) > 1
    pending = [
        run_arm.Job(
            run,
            store,
            out,
            config.audit,
            config.probe,
            config.robust,
            _alike(run, runs),
            device,
            workers,
            quiet or together,
        )
        for run in runs
        if not _done(_row_path(out, run))
    ]
    finished = len(runs) - len(pending)
    failures: dict[str, DirlError] = {}
    ahead = {job.run.name for job in pending}

    def begins(job: run_arm.Job) -> bool:
        return job.run.start is None or job.run.start.name not in ahead

    carried = spread(_carry_out, pending, places, begins) if together else each(_carry_out, pending)
    try:
        with closing(carried):
            for job, outcome in carried:
                ahead.remove(job.run.name)
                finished += 1
                if isinstance(outcome, Exception):
                    if no_room(outcome):
                        raise outcome
                    failures[job.run.name] = error = explained(outcome)
                    error.where = error.where or job.run.name
                    row = _failed(job.run, error)
                else:
                    row = outcome
                write_json(_row_path(out, job.run), row)
                if not quiet:
                    told = "failed" if row["failed"] else f"entropy {number(row['measures']['entropy'])}"
                    Console(stderr=True).print(f"{finished}/{len(runs)} {job.run.name}: {told}", markup=False)
    except (KeyboardInterrupt, Interrupted):
        if finished:  # a study takes a night: what there is by now can be read; figures take time
            _tabulate(config, out, runs)
        raise
    summary = _tabulate(config, out, runs)
    _illustrate(summary, out, runs)
    if failures:
        raise PartlyFailedError(failures, len(runs) - len(failures))
    finish(out, card, {"runs": len(runs)})
    return StudyResult(out, summary)


def _tabulate(config: StudyConfig, out: Path, runs: tuple[StudyRun, ...]) -> dict[str, Any]:
    """Write the tables of all rows that there are."""
    rows = [path for run in runs if (path := _row_path(out, run)).exists()]
    summary = summarise(config, [read_json(path) for path in rows])
    write_json(out / "summary.json", summary)
    write_text(out / "table.csv", to_csv(summary))
    write_text(out / "table.md", to_markdown(summary))
    return summary


def _illustrate(summary: Mapping[str, Any], out: Path, runs: tuple[StudyRun, ...]) -> None:
    folders = {run.name: out / "runs" / run.name for run in runs}
    there = {name: path for name, path in folders.items() if (path / "metrics.csv").exists()}
    curves = {name: checked(path, "metrics.csv") for name, path in there.items()}
    for name, data in draw(summary, curves).items():
        with replacing(out / "figures" / name) as temporary:
            temporary.write_bytes(data)


def load_result(path: Path) -> StudyResult:
    """Open a study that has its table.

    Raises
    ------
    StoreError
        If it has none yet.
    """
    if not (path / SUMMARY).exists():
        remedy = "run the same `dirl study` to its end"
        raise StoreError("holds no summary.json", where=path, remedy=remedy)
    return StudyResult(path, read_summary(path))


def _carry_out(job: run_arm.Job) -> dict[str, Any]:
    start = job.run.start
    if start is not None and not _done(_row_path(job.out, start)):
        raise TrainingError(
            f"{start.name}, which it begins with, failed", where=job.run.name, remedy="run the study again"
        )
    return run_arm.carry_out(job)


def _alike(run: StudyRun, runs: tuple[StudyRun, ...]) -> StudyRun:
    """The first run whose encoder, untrained, is this one's."""
    return next(
        one
        for one in runs
        if one.recipe.encoder == run.recipe.encoder and one.recipe.views.size_px == run.recipe.views.size_px
    )


def _check(runs: tuple[StudyRun, ...], seed: int, tiles: TileStore) -> None:
    """Refuse a recipe before the hours of training of those before it."""
    for run in runs:
        if run.seed != seed:  # those of another seed differ in it alone
            continue
        try:
            kind, _ = load_objective(run.recipe.objective)
            check(run.recipe, kind, 1)
            make_dense_term(run.recipe.dense, tiles, run.recipe.cells, run.recipe.seed)
        except ConfigError as error:
            where = f"{run.objective}/{run.arm} of the study: {error.where}"
            raise ConfigError(error.reason, where=where, remedy=error.remedy) from None


def _check_scored(config: StudyConfig, tiles: TileStore, quiet: bool) -> None:
    """Deal the scored tiles to their folds, as every run's probe will."""
    probe = config.probe
    if probe is None:
        return
    scored = TileStore.open(Path(probe.store)) if probe.store else tiles
    try:
        given = read_labels(scored, probe.labels)
        drawn = subsample_tiles(scored, probe.tiles, probe.seed)
        prepare_task(scored, given, drawn, probe.settings, quiet=quiet)
        if robust := config.robust:
            labelled = np.flatnonzero(given.classes != "")
            drawn = subsample_tiles(scored, robust.tiles, robust.seed, labelled)
            prepare_task(scored, given, drawn, robust, quiet=quiet)
    except ConfigError as error:
        where = f"probe or robust of the study ({error.where})"
        raise ConfigError(error.reason, where=where, remedy=error.remedy) from None


def _row_path(out: Path, run: StudyRun) -> Path:
    return out / "results" / f"{run.name}.json"


def _done(path: Path) -> bool:
    try:
        return not read_json(path)["failed"]
    except (FileNotFoundError, StoreError, TypeError, KeyError):  # damaged: read anew from what is done
        return False


def _failed(run: StudyRun, error: DirlError) -> dict[str, Any]:
    place = {"run": run.name, "objective": run.objective, "arm": run.arm, "seed": run.seed, "kind": run.kind}
    found: dict[str, Any] = {"failed": str(error), "gate": None, "measures": {}, "notes": []}
    if notes := getattr(error, "__notes__", None):  # nobody may be watching: what went wrong is kept
        found["traceback"] = notes
    return place | found
