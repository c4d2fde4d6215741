"""`dirl pretrain`: from a recipe and a store to a run's directory, in one go or in several."""

import os
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.config import ObjectiveConfig, PretrainRecipe, to_yaml
from dirl.core.checked import checked
from dirl.core.errors import Interrupted, StoreError, TrainingError
from dirl.core.files import write_json, write_text
from dirl.core.owner import owning
from dirl.core.provenance import Card, claim, finish, new_card, read_card, reopen
from dirl.core.sealed import read_sealed, write_sealed
from dirl.core.signals import begin_rank
from dirl.encoders.vit import ViT
from dirl.encoders.weights import weights_digest
from dirl.objectives.registry import load_objective
from dirl.pretrain.build import build
from dirl.pretrain.checks import check, check_local_views, warn_if_coarse, warn_of_start
from dirl.pretrain.data import CountedLoader, CountedOrder, TileBatches, held_out, make_loader
from dirl.pretrain.export import export_encoder
from dirl.pretrain.last_checkpoint import read_checkpoint
from dirl.pretrain.logs import read_metrics
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.trackers import check_tracker, make_tracker
from dirl.pretrain.trainer import choose_devices, saved_step, train
from dirl.prior.metrics import know
from dirl.prior.source import Prior, make_prior
from dirl.store.dataset import TileStore
from dirl.store.select import Selection, count_kept, select_tiles

CLAIM_SECONDS = 60
RANK_NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")
BEGAN = datetime.now(UTC)


@dataclass(frozen=True)
class Run:
    """A pretraining run.

    Attributes
    ----------
    path
        Its directory: ``encoder/``, ``recipe.yaml``, ``metrics.csv``, ``last.ckpt``, ``card.json``; with
        ``select`` the numbers of the tiles in ``selection.json``.
    steps
        Steps trained.
    finished
        Whether those are all; else the same call goes on.
    metrics
        The last value of every metric.
    """

    path: Path
    steps: int
    finished: bool
    metrics: dict[str, float]


@owning
def pretrain(
    recipe: PretrainRecipe,
    store: Path,
    out: Path,
    *,
    device: str = "auto",
    devices: int | None = None,
    nodes: int = 1,
    workers: int = 0,
    logger: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    allow_unfinished: bool = False,
) -> Run:
    """Pretrain an encoder, or go on where an interrupted run of the same recipe stopped.

    Parameters
    ----------
    recipe
        What to train. ``dense.weight`` of 0 is the vanilla objective.
    store
        A tile store, with the recipe's cells where the dense term needs them.
    out
        Directory of the run.
    device
        ``auto``, ``cpu`` or ``cuda``.
    devices
        Devices, or with ``cpu`` processes, that share each batch. None is all visible GPUs, or one process.
    nodes
        Machines of a cluster that take part.
    workers
        Processes that read tiles, per device; 0 reads in the training process.
    logger
        ``wandb`` or ``mlflow``, to follow the run there, too; see `dirl.pretrain.trackers`.
    overwrite
        Replace a run of another recipe.
    quiet
        Show no progress.
    allow_unfinished
        Return the unfinished run where a signal stopped it, and raise nothing.

    Returns
    -------
    Run

    Raises
    ------
    StoreError
        If the store lacks tiles or cells, or `out` was made with another recipe.
    ConfigError
        If the recipe asks for what there is not.
    TrainingError
        If the loss is not finite, the embeddings collapse, or memory runs out.
    Interrupted
        If SIGINT, SIGTERM, SIGHUP or SIGUSR1 came. The state after the step at hand is saved.
    """
    begin_rank()
    tiles = TileStore.open(store)
    where = choose_devices(device, devices, nodes)
    if logger is not None:
        check_tracker(logger)
    kind, settings = load_objective(recipe.objective)
    recipe = recipe.model_copy(
        update={"objective": ObjectiveConfig(name=recipe.objective.name, **settings.model_dump())}
    )
    check(recipe, kind, where.ranks)
    prior = make_prior(recipe, tiles)
    regions = 0 if prior is None else len(prior.names)
    student = build(recipe, kind, settings, regions)
    check_local_views(recipe, student.encoder.patch_px)
    # The index says which tiles; how they were cut says whose held-out tiles they may be elsewhere.
    inputs = {"store": tiles.digest, "tiling": tiles.card.digest}
    if prior is not None and prior.cells is not None:
        inputs["cells"] = prior.cells.card.digest
    if student.init is not None:
        inputs["init"] = weights_digest(student.encoder.vit)
    kept = np.flatnonzero(~held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed))
    counts: dict[str, Any] = {"steps": recipe.steps, "held_out": len(tiles) - len(kept)}
    loader = partial(_loader, tiles, prior, kept, recipe, workers, where.gpu)
    # Refuse a batch that cannot be filled, by as many tiles as will be selected.
    share, of_slides = recipe.select or 1, np.unique(tiles.slide_ids[kept], return_counts=True)[1]
    few = kept[: sum(count_kept(count, share) for count in of_slides.tolist())]
    _loader(tiles, prior, few, recipe, workers, where.gpu, 0, 0, where.ranks)
    card = _claim(out, new_card("pretrain", recipe.model_dump(mode="json"), inputs), overwrite)
    if card.finished and (out / "encoder").exists():
        return _finished(out, recipe)
    if card.finished:  # someone removed a damaged encoder, which the last state holds too
        card = reopen(out, card)
    write_text(out / "recipe.yaml", to_yaml(recipe))
    if recipe.select is not None:
        selection = _selected(out, tiles, recipe.select, recipe.seed, kept, workers, quiet)
        kept, counts["selected"] = selection.numbers, selection.counts()
        loader = partial(_loader, tiles, prior, kept, recipe, workers, where.gpu)
    if student.init is not None:
        write_json(out / "init.json", asdict(student.init))
        warn_of_start(recipe, student.init)
    if prior is not None and prior.cells is not None:
        warn_if_coarse(recipe, tiles, student.encoder)

    module = PretrainModule(
        student.encoder,
        student.objective,
        recipe,
        tiles.spec.mpp,
        loader,
        regions,
        student.disentangle,
        None if prior is None else know(prior),
    )
    tracker = None if logger is None else make_tracker(logger, out, card.started)
    try:
        trainer = train(module, recipe, tiles, out, where, quiet, tracker)
    except Interrupted:
        if not allow_unfinished:
            raise
        return Run(out, saved_step(out / "last.ckpt"), False, _last_metrics(out))
    if trainer.is_global_zero:
        export_encoder(_saved(recipe, out / "last.ckpt"), recipe.encoder, out / "encoder")
        finish(out, card, counts | {"tiles": len(kept), "mpp": tiles.spec.mpp})
    return _finished(out, recipe)


def load_run(path: Path) -> Run:
    """Open a finished run.

    Raises
    ------
    StoreError
        If it is no run, or not finished.
    """
    card = read_card(path, "pretrain")
    if not card.finished:
        raise StoreError("this run is not finished", where=path, remedy="run the same `dirl pretrain` again")
    return Run(path, int(card.counts["steps"]), True, _last_metrics(path))


def get_rank() -> int:
    """Rank of this process, as whoever started it says: torchrun, SLURM, or Lightning for its children."""
    return next((int(os.environ[name]) for name in RANK_NAMES if name in os.environ), 0)


def _finished(out: Path, recipe: PretrainRecipe) -> Run:
    return Run(out, recipe.steps, True, _last_metrics(out))


def _last_metrics(out: Path) -> dict[str, float]:
    merged: dict[str, float] = {}
    for row in read_metrics(checked(out, "metrics.csv")):
        merged |= row
    return merged


def _loader(
    tiles: TileStore,
    prior: Prior | None,
    kept: NDArray[np.int64],
    recipe: PretrainRecipe,
    workers: int,
    pin: bool,
    start: int,
    rank: int,
    ranks: int,
) -> CountedLoader:
    parts = recipe.optimiser.accumulate
    centres = tiles.centres[kept] if recipe.balance == "centre" else None
    order = CountedOrder(
        kept, recipe.batch // parts, recipe.steps * parts, recipe.seed, start * parts, rank, ranks, centres
    )
    return make_loader(TileBatches(tiles, prior), order, workers, pin)


def _selected(
    out: Path,
    tiles: TileStore,
    share: float,
    seed: int,
    kept: NDArray[np.int64],
    workers: int,
    quiet: bool,
) -> Selection:
    """Select once for a run, since every tile is read for it; several processes select alike."""
    file = out / "selection.json"
    found = read_sealed(file)
    if found is not None:
        slides = {slide: (part, of) for slide, (part, of) in found["slides"].items()}
        return Selection(np.array(found["numbers"], np.int64), slides)
    hidden = quiet or get_rank() > 0
    chosen = select_tiles(tiles, share, seed, kept, workers=workers, quiet=hidden)
    if not get_rank():
        write_sealed(file, {"numbers": chosen.numbers.tolist(), "slides": chosen.slides})
    return chosen


def _saved(recipe: PretrainRecipe, checkpoint: Path) -> ViT:
    """Return the encoder of a checkpoint: what is given away is what was saved."""
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {
        key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")
    }
    encoder = ViT(recipe.encoder, recipe.views.size_px, masked="mask_token" in weights)
    encoder.load_state_dict(weights)
    return encoder


def _claim(out: Path, card: Card, overwrite: bool) -> Card:
    """Let the first of several processes claim the directory, and the others wait for it."""
    if not get_rank():
        return claim(out, card, overwrite=overwrite)
    for _ in range(CLAIM_SECONDS * 10):
        if (out / "card.json").exists():
            found = read_card(out, "pretrain")
            # What is about to be replaced may have the same settings: it began before these processes.
            age = BEGAN - datetime.fromisoformat(found.started)
            if found.digest == card.digest and not (overwrite and age.total_seconds() > CLAIM_SECONDS):
                return found
        time.sleep(0.1)
    reason = f"process 0 has not claimed it within {CLAIM_SECONDS} s"
    raise TrainingError(reason, where=out, remedy="see what process 0 said")
