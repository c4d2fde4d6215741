"""`dirl study`: a matrix of runs, one after another or side by side, and one table."""

from collections.abc import Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import numpy as np

from dirl.config import load_recipe
from dirl.core.boundary import inside, parsing
from dirl.core.card import new_card, read_card
from dirl.core.checked import SUMMARY, checked
from dirl.core.digests import digest
from dirl.core.errors import (
    ConfigError,
    DirlError,
    Interrupted,
    PartlyFailedError,
    StoreError,
    TrainingError,
    as_dirl_error,
)
from dirl.core.files import no_room, read_json, replacing, write_json, write_text
from dirl.core.layout import CARD
from dirl.core.parallel import each
from dirl.core.progress import say
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.evaluate.common.labels import labels_file, read_labels
from dirl.evaluate.common.task import prepare_task
from dirl.objectives.base import load_objective
from dirl.pretrain.plan import check_recipe
from dirl.prior.dense_term import make_dense_term
from dirl.report.html import format_number
from dirl.store.dataset import TileStore
from dirl.store.subsample import subsample_tiles
from dirl.study import run_arm
from dirl.study.figures import draw_study
from dirl.study.matrix import StudyConfig, StudyRun, expand, load_study
from dirl.study.measures import PRIMARY
from dirl.study.run_arm import Job
from dirl.study.scheduler import Slot, run_in_processes, slots
from dirl.study.summarise import summarise_study
from dirl.study.summary import RunRow, StudySummary
from dirl.study.table import arms_csv, study_markdown
from dirl.tables.label_column import join_source, split_source

LATER = ("primary", "margins", "gate", "tokens")
"""Keys that studies did not always have."""


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
) -> Result[StudySummary]:
    """Train, audit and score every run of a matrix, and put them in one table.

    The same command continues an interrupted study: it keeps finished runs, and repeats failed ones. A run
    trains on one device. To train on several, use `dirl pretrain`.

    The output holds ``table.md``, ``table.csv``, ``summary.json``, ``figures/``, ``results/``, ``runs/``,
    ``audits/``, ``features/``, ``probes/``, ``robust/``, ``tokens/`` and ``card.json``.

    Parameters
    ----------
    spec
        A study's YAML file, the name of a shipped one, or its settings.
    store
        A tile store with cells. Those of the recipe are audited, unless the study's ``audit`` names others.
    out
        Directory of the study.
    device
        ``auto``, ``cpu`` or ``cuda``.
    workers
        Processes that read tiles, per run.
    parallel
        Runs at a time. They share the visible GPUs, or the cores. None is one for each GPU, or one.
    overwrite
        Replace a study of other settings, with all its runs.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If the study's settings are wrong, or an objective or the store does not support them.
    StoreError
        If a store lacks tiles or cells, or `out` holds another study.
    PartlyFailedError
        If runs failed. The others are finished, and the table has them.
    """
    config = spec if isinstance(spec, StudyConfig) else load_study(spec)
    out = out.resolve()  # cards name its folders: another spelling of a path is the same study
    labels = labels_file(config.probe.labels) if config.probe else None
    if config.probe:  # full paths: it is the same study wherever the command runs
        full = {"store": str(Path(config.probe.store).resolve())} if config.probe.store else {}
        if labels:
            full["labels"] = join_source(labels.resolve(), split_source(config.probe.labels)[1])
        config = config.model_copy(update={"probe": config.probe.model_copy(update=full)})
    if config.tokens:
        store_of_tokens = str(Path(config.tokens.store).resolve())
        config = config.model_copy(
            update={"tokens": config.tokens.model_copy(update={"store": store_of_tokens})}
        )
    runs = expand(config)
    if "cells" not in config.audit.model_fields_set:  # the audit looks at the cells that the runs learn from
        audit = config.audit.model_copy(update={"cells": _cells(config)})
        config = config.model_copy(update={"audit": audit})
    tiles = TileStore.open(store)
    cells = tiles.cells(config.audit.cells)
    _check(runs, config.seeds[0], tiles)
    if overwrite or not (out / CARD).exists():
        _check_scored(config, tiles, quiet)  # only before the first run: it reads all scored tiles
    # The content of the recipe counts, not its path.
    settings = config.model_dump(mode="json", exclude={"recipe", *LATER})
    # Only what is stated: studies that were made before these keys existed stay the same.
    settings |= config.model_dump(mode="json", include={*LATER}, exclude_defaults=True)
    settings["base"] = load_recipe(config.recipe).model_dump(mode="json")
    inputs = {"store": tiles.digest, "tiling": tiles.card.digest, "cells": cells.card.digest}
    if labels:
        inputs["labels"] = digest(labels)
    if config.probe and config.probe.store:
        inputs["probe store"] = TileStore.open(Path(config.probe.store)).digest
    if config.tokens:
        of_tokens = TileStore.open(Path(config.tokens.store))
        inputs["token store"] = of_tokens.digest
        inputs["token cells"] = of_tokens.cells(config.tokens.cells).card.digest
    places = slots(device, parallel)
    jobs = [
        Job(
            run,
            store,
            out,
            config.audit,
            config.probe,
            config.robust,
            config.tokens,
            alike=_first_alike(run, runs),
            device=device,
            workers=workers,
            quiet=quiet or len(places) > 1,
        )
        for run in runs
    ]
    compute = partial(_compute, config=config, jobs=jobs, places=places, quiet=quiet)
    card, again = new_card("study", settings, inputs), _lacks_files(out)
    return carry_out(card, out, StudySummary, compute, overwrite=overwrite, again=again)


def _compute(
    work: Work,
    *,
    config: StudyConfig,
    jobs: Sequence[Job],
    places: list[Slot],
    quiet: bool,
) -> StudySummary:
    out, runs = work.out, [job.run for job in jobs]
    pending = [job for job in jobs if not _done(_row_path(out, job.run))]
    finished = len(runs) - len(pending)
    failures: dict[str, DirlError] = {}
    waiting = {one.run.name for one in pending}

    def begins(one: Job) -> bool:
        return one.run.start is None or one.run.start.name not in waiting

    outcomes = (
        run_in_processes(_run_job, pending, places, begins) if len(places) > 1 else each(_run_job, pending)
    )
    try:
        with closing(outcomes):
            for one, outcome in outcomes:
                waiting.remove(one.run.name)
                finished += 1
                if isinstance(outcome, Exception):
                    if no_room(outcome):
                        raise outcome
                    failures[one.run.name] = error = as_dirl_error(outcome)
                    error.where = error.where or one.run.name
                    row = _failed(one.run, error)
                else:
                    row = outcome
                write_json(_row_path(out, one.run), row.to_json())
                if not quiet:
                    text = "failed" if row.failed else f"entropy {format_number(row.measures[PRIMARY])}"
                    say(f"{finished}/{len(runs)} {one.run.name}: {text}")
    except (KeyboardInterrupt, Interrupted):
        if finished:  # the table of the finished runs; figures would take time
            write_json(out / SUMMARY, _tabulate(config, out, runs).to_json())
        raise
    summary = _tabulate(config, out, runs)
    _illustrate(summary, out, runs)
    if failures:  # the card stays unfinished, so that the same command repeats the failed runs
        write_json(out / SUMMARY, summary.to_json())
        raise PartlyFailedError(failures, len(runs) - len(failures))
    return summary


def _tabulate(config: StudyConfig, out: Path, runs: Sequence[StudyRun]) -> StudySummary:
    """Write the tables of the runs that have a row."""
    rows = [_read_row(path) for run in runs if (path := _row_path(out, run)).exists()]
    summary = summarise_study(config, rows)
    write_text(out / "table.csv", arms_csv(summary))
    write_text(out / "table.md", study_markdown(summary))
    return summary


def _illustrate(summary: StudySummary, out: Path, runs: Sequence[StudyRun]) -> None:
    folders = {run.name: out / "runs" / run.name for run in runs}
    there = {name: path for name, path in folders.items() if (path / "metrics.csv").exists()}
    curves = {name: checked(path, "metrics.csv") for name, path in there.items()}
    for name, data in draw_study(summary, curves).items():
        with replacing(out / "figures" / name) as temporary:
            temporary.write_bytes(data)


def _run_job(job: Job) -> RunRow:
    start = job.run.start
    if start is not None and not _done(_row_path(job.out, start)):
        raise TrainingError(
            f"{start.name}, which it begins with, failed", where=job.run.name, remedy="run the study again"
        )
    return run_arm.run_job(job)


def _lacks_files(out: Path) -> bool:
    """Whether files of a finished study were removed. Then the same command makes them again."""
    with suppress(StoreError):  # `claim` says what is wrong with the card
        return (out / CARD).exists() and not all(inside(out, name).exists() for name in read_card(out).files)
    return False


def _cells(config: StudyConfig) -> str:
    """Name of the cells of the recipe, as ``set`` changes it for all runs."""
    return str(config.set.get("cells", load_recipe(config.recipe).cells))


def _first_alike(run: StudyRun, runs: Sequence[StudyRun]) -> StudyRun:
    """The first run with the same untrained encoder."""
    return next(
        one
        for one in runs
        if one.recipe.encoder == run.recipe.encoder and one.recipe.views.size_px == run.recipe.views.size_px
    )


def _check(runs: Sequence[StudyRun], seed: int, tiles: TileStore) -> None:
    """Check every recipe before the first is trained."""
    for run in runs:
        if run.seed != seed:  # other seeds have the same recipes otherwise
            continue
        try:
            kind, _ = load_objective(run.recipe.objective)
            check_recipe(run.recipe, kind, 1)
            make_dense_term(run.recipe.dense, tiles, run.recipe.cells, run.recipe.seed)
        except ConfigError as error:
            where = f"{run.objective}/{run.arm} of the study: {error.where}"
            raise ConfigError(error.reason, where=where, remedy=error.remedy) from None


def _check_scored(config: StudyConfig, tiles: TileStore, quiet: bool) -> None:
    """Check that the scored tiles can be divided into folds."""
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


def _read_row(path: Path) -> RunRow:
    values = read_json(path)
    with parsing(path, remedy="remove it, and run the same `dirl study` again"):
        return RunRow.model_validate(values)


def _done(path: Path) -> bool:
    try:
        return _read_row(path).failed is None
    except (FileNotFoundError, StoreError):  # a damaged row is made again from the finished steps
        return False


def _failed(run: StudyRun, error: DirlError) -> RunRow:
    notes = getattr(error, "__notes__", None)  # the traceback: the error may be read much later
    return RunRow(
        run=run.name,
        objective=run.objective,
        arm=run.arm,
        seed=run.seed,
        kind=run.kind,
        failed=str(error),
        gate=None,
        measures={},
        notes=[],
        **({"traceback": notes} if notes else {}),
    )
