"""`dirl pretrain`: from a recipe and a store to a run's directory."""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers.logger import Logger
from numpy.typing import NDArray

from dirl.config import EncoderConfig, PretrainRecipe, to_yaml
from dirl.core.card import finish, new_card, read_card
from dirl.core.checked import checked
from dirl.core.claim import claim_again
from dirl.core.errors import Interrupted
from dirl.core.files import read_json_with_digest, write_json, write_json_with_digest, write_text
from dirl.core.journal import note_written
from dirl.core.owner import owning
from dirl.core.signals import begin_rank
from dirl.encoders.vit import ViT
from dirl.pretrain.callbacks import Bar, Checkpoint, Guard, Log, PriorWatch
from dirl.pretrain.devices import Devices, choose_devices, claim_together, get_rank
from dirl.pretrain.last_checkpoint import read_checkpoint
from dirl.pretrain.loggers import TrackerName, check_tracker, make_tracker
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.plan import TrainingPlan, plan_training, warn_if_coarse, warn_of_start
from dirl.pretrain.read_run import Run, last_metrics
from dirl.pretrain.snapshots import choose_snapshots
from dirl.pretrain.trainer import saved_step, train
from dirl.store.dataset import TileStore
from dirl.store.select import Selection, select_tiles


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
    logger: TrackerName | None = None,
    overwrite: bool = False,
    quiet: bool = False,
    allow_unfinished: bool = False,
) -> Run:
    """Pretrain an encoder, or continue an interrupted run of the same recipe.

    Parameters
    ----------
    recipe
        What to train. ``dense.weight`` of 0 is the vanilla objective.
    store
        A tile store, with the recipe's cells if the dense term needs them.
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
        ``wandb`` or ``mlflow``, to follow the run there too, see `dirl.pretrain.loggers`.
    overwrite
        Replace a run of another recipe.
    quiet
        Show no progress.
    allow_unfinished
        Return the unfinished run if a signal stopped it, instead of raising `Interrupted`.

    Returns
    -------
    Run

    Raises
    ------
    StoreError
        If the store lacks cells or centres, or `out` was made with another recipe.
    ConfigError
        If the recipe asks for something that does not exist, or that its objective cannot do. Or if
        a batch is larger than the number of tiles.
    TrainingError
        If the loss is not finite, the embeddings collapse, or memory runs out.
    Interrupted
        If SIGINT, SIGTERM, SIGHUP or SIGUSR1 came. The state after the current step is saved.
    """
    began = datetime.now(UTC)
    begin_rank()
    tiles = TileStore.open(store)
    where = choose_devices(device, devices, nodes)
    if logger is not None:
        check_tracker(logger)
    plan = plan_training(recipe, tiles, where, workers)
    recipe = plan.recipe
    card = new_card("pretrain", recipe.model_dump(mode="json"), plan.inputs)
    card = claim_together(out, card, overwrite, began)
    if card.finished and (out / "encoder").exists():
        return Run(out, recipe.steps, True, last_metrics(out))
    if card.finished:  # a damaged encoder was removed; the last state holds it too
        checked(out, "metrics.csv", card)  # it is written again
        card = claim_again(out, card)
    kept, counts = _write_inputs(plan, out, workers, quiet)
    tracker = None if logger is None else make_tracker(logger, out, card.started)
    if tracker is not None:
        tracker.log_hyperparams(recipe.model_dump(mode="json"))
    last = out / "last.ckpt"
    try:
        trainer = _train(plan, kept, out, where, tracker, quiet)
    except Interrupted:
        if not allow_unfinished:
            raise
        return Run(out, saved_step(last), False, last_metrics(out))
    if trainer.is_global_zero:
        trained = _saved(recipe.encoder, recipe.views.size_px, last)
        trained.save(out / "encoder", tiles.spec.size_px)
        _note_logs(out)
        finish(out, card, counts | {"tiles": len(kept), "mpp": tiles.spec.mpp})
    return Run(out, recipe.steps, True, last_metrics(out))


def _write_inputs(
    plan: TrainingPlan, out: Path, workers: int, quiet: bool
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """Write the recipe and what was selected and initialised; return the tiles to train on, and counts."""
    recipe, kept = plan.recipe, plan.loaders.indices
    counts: dict[str, Any] = {"steps": recipe.steps, "held_out": len(plan.tiles) - len(kept)}
    write_text(out / "recipe.yaml", to_yaml(recipe))
    if recipe.select is not None:
        selection = _selected(out, plan.tiles, recipe.select, recipe.seed, kept, workers, quiet)
        kept, counts["selected"] = selection.numbers, selection.counts
    if plan.student.init is not None:
        write_json(out / "init.json", asdict(plan.student.init))
        warn_of_start(recipe.encoder, plan.student.init)
    if plan.cells is not None:
        warn_if_coarse(recipe.views, plan.tiles, plan.student.encoder.patch_px)
    return kept, counts


def _train(
    plan: TrainingPlan,
    kept: NDArray[np.int64],
    out: Path,
    where: Devices,
    tracker: Logger | None,
    quiet: bool,
) -> Trainer:
    """Train on the tiles `kept`; see `dirl.pretrain.trainer.train`."""
    recipe, schedule, student, last = plan.recipe, plan.schedule, plan.student, out / "last.ckpt"
    loaders, mpp = replace(plan.loaders, indices=kept), plan.tiles.spec.mpp
    view_px, patch_px = recipe.views.size_px, student.encoder.patch_px
    # Guard runs first, so NaNs are not logged or saved; Log runs before Checkpoint.
    callbacks = [
        Guard(round(recipe.optimiser.warmup_share * recipe.steps), schedule, last),
        PriorWatch(recipe.cells, schedule.log_every),
        Log(schedule, choose_snapshots(plan.tiles, plan.held_out, recipe.seed, view_px, patch_px)),
        Checkpoint(last, schedule.save_every),
        Bar(f"Pretraining {out.name}", quiet),
    ]
    return train(
        PretrainModule(
            student, plan.dense, recipe.views, recipe.optimiser, schedule, mpp, loaders, recipe.entropy
        ),
        out,
        where,
        precision=recipe.precision,
        clip_norm=recipe.optimiser.clip_norm,
        callbacks=callbacks,
        tracker=tracker,
    )


def _note_logs(out: Path) -> None:
    """Note the logs, which are written line by line; interrupted runs have left event files, too."""
    note_written(out / "metrics.csv")
    known = read_card(out).files
    for pattern in ("events.out.tfevents.*", "hparams.yaml"):
        for file in (out / "tensorboard").glob(pattern):
            if f"tensorboard/{file.name}" not in known:
                note_written(file)


def _selected(
    out: Path,
    tiles: TileStore,
    share: float,
    seed: int,
    kept: NDArray[np.int64],
    workers: int,
    quiet: bool,
) -> Selection:
    """Select once for a run, since all tiles are read for it; every process selects the same."""
    file = out / "selection.json"
    found = read_json_with_digest(file)
    if found is not None:
        slides = {slide: (part, of) for slide, (part, of) in found["slides"].items()}
        return Selection(np.array(found["numbers"], np.int64), slides)
    hidden = quiet or get_rank() > 0
    chosen = select_tiles(tiles, share, seed, kept, workers=workers, quiet=hidden)
    if not get_rank():
        write_json_with_digest(file, {"numbers": chosen.numbers.tolist(), "slides": chosen.slides})
    return chosen


def _saved(config: EncoderConfig, view_px: int, checkpoint: Path) -> ViT:
    """Return the encoder of a checkpoint: the state that was saved is exported."""
    state = read_checkpoint(checkpoint)["state_dict"]
    weights = {
        key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")
    }
    encoder = ViT(config, view_px, masked="mask_token" in weights)
    encoder.load_state_dict(weights)
    return encoder
