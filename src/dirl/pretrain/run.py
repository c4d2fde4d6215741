"""`dirl pretrain`: from a recipe and a store to a run's directory, in one go or in several."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger

from dirl.card import claim, finish, new_card, read_card
from dirl.config import PretrainRecipe, to_yaml
from dirl.encoders.vit import ViT
from dirl.errors import ConfigError, StoreError
from dirl.files import write_text
from dirl.plugins import resolve
from dirl.pretrain.data import (
    CountedLoader,
    CountedOrder,
    TileBatches,
    held_out,
    make_loader,
    shuffled_partners,
)
from dirl.pretrain.export import export_encoder
from dirl.pretrain.logs import MetricsCsv, read_metrics
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.monitors import Bar, Checkpoint, Guard, Log
from dirl.store.dataset import CellStore, TileStore

WATCHED_TILES = 64
COARSE_UM = 8.0


@dataclass(frozen=True)
class Run:
    """A finished pretraining run.

    Attributes
    ----------
    path
        Its directory: ``encoder/``, ``recipe.yaml``, ``metrics.csv``, ``last.ckpt``, ``card.json``.
    steps
        Steps trained.
    metrics
        The last value of every metric.
    """

    path: Path
    steps: int
    metrics: dict[str, float]


def pretrain(
    recipe: PretrainRecipe,
    store: Path,
    out: Path,
    *,
    device: str = "auto",
    workers: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
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
        ``auto``, ``cpu`` or ``cuda``; with CUDA all visible devices are used.
    workers
        Processes that read tiles, per device; 0 reads in the training process.
    overwrite
        Replace a run of another recipe.
    quiet
        Show no progress.

    Raises
    ------
    StoreError
        If the store lacks tiles or cells, or `out` was made with another recipe.
    ConfigError
        If the recipe asks for what there is not.
    TrainingError
        If the loss is not finite or the embeddings collapse.
    """
    tiles = TileStore.open(store)
    cells = tiles.cells(recipe.cells) if needs_cells(recipe) else None
    # The index says which tiles; how they were cut says whose held-out tiles they may be elsewhere.
    inputs = {"store": tiles.digest, "tiling": tiles.card.digest}
    inputs |= {"cells": cells.card.digest} if cells else {}
    with _seeded(recipe.seed):
        encoder = ViT(recipe.encoder, recipe.views.size_px)
        objective = resolve("dirl.objectives", recipe.objective.name)(
            encoder.width, recipe.objective, recipe.dense.weight > 0
        )
    kept = np.flatnonzero(~held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed))
    CountedOrder(kept, recipe.batch, recipe.steps, recipe.seed)  # refuses a batch that cannot be filled
    card = claim(out, new_card("pretrain", recipe.model_dump(mode="json"), inputs), overwrite=overwrite)
    if card.finished:
        return _finished(out, recipe)
    write_text(out / "recipe.yaml", to_yaml(recipe))

    token_um = encoder.patch_px * tiles.spec.mpp * _typical_scale(recipe, tiles.spec.size_px)
    if cells is not None and token_um > COARSE_UM:
        warnings.warn(
            f"tokens of {token_um:.1f} µm are coarse: above {COARSE_UM:g} µm nuclei and the rest weigh "
            "nearly the same tokens; use a smaller encoder.patch_px or a finer mpp",
            stacklevel=2,
        )
    last = out / "last.ckpt"
    start = (
        int(torch.load(last, map_location="cpu", weights_only=True)["global_step"]) if last.exists() else 0
    )
    accelerator = {"auto": "auto", "cpu": "cpu", "cuda": "gpu"}.get(device)
    if accelerator is None or (device == "cuda" and not torch.cuda.is_available()):
        raise ConfigError(
            "no such device here", where=f"--device {device}", remedy="use auto or cpu; see `dirl doctor`"
        )
    on_gpu = accelerator != "cpu" and torch.cuda.is_available()
    module = PretrainModule(
        encoder,
        objective,
        recipe,
        tiles.spec.mpp,
        partial(_loader, tiles, cells, kept, recipe, workers, on_gpu),
    )
    tensorboard = TensorBoardLogger(out, name="", version="tensorboard", purge_step=start or None)
    with _quiet_lightning():
        trainer = pl.Trainer(
            accelerator=accelerator,
            devices="auto" if on_gpu else 1,
            strategy="ddp" if on_gpu and torch.cuda.device_count() > 1 else "auto",
            sync_batchnorm=on_gpu and torch.cuda.device_count() > 1,
            precision=_precision(recipe, on_gpu),
            max_steps=recipe.steps,
            gradient_clip_val=recipe.optimiser.clip_norm,
            logger=[MetricsCsv(out / "metrics.csv", start), tensorboard],
            callbacks=_callbacks(recipe, tiles, encoder.patch_px, out, quiet),
            log_every_n_steps=1,  # nothing goes through it: see monitors.Log
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, ckpt_path=last if start else None, weights_only=True)
    if trainer.interrupted or trainer.global_step < recipe.steps:
        raise KeyboardInterrupt
    if trainer.is_global_zero:
        export_encoder(encoder, recipe.encoder, out / "encoder")
        finish(out, card, {"steps": recipe.steps, "tiles": len(kept), "held_out": len(tiles) - len(kept)})
    return _finished(out, recipe)


def needs_cells(recipe: PretrainRecipe) -> bool:
    """Whether a recipe's dense term reads region ids: not when vanilla, nor for the control ``one``."""
    return recipe.dense.weight > 0 and recipe.dense.control != "one"


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
    return Run(path, int(card.counts["steps"]), _last_metrics(path))


def _finished(out: Path, recipe: PretrainRecipe) -> Run:
    return Run(out, recipe.steps, _last_metrics(out))


def _last_metrics(out: Path) -> dict[str, float]:
    merged: dict[str, float] = {}
    for row in read_metrics(out / "metrics.csv"):
        merged |= row
    return merged


def _loader(
    tiles: TileStore,
    cells: CellStore | None,
    kept: np.ndarray[tuple[int], np.dtype[np.int64]],
    recipe: PretrainRecipe,
    workers: int,
    pin: bool,
    start: int,
    rank: int,
    ranks: int,
) -> CountedLoader:
    if recipe.dense.control == "shuffled" and cells is not None:
        partner = shuffled_partners(tiles, recipe.seed)
    else:
        partner = np.arange(len(tiles))
    order = CountedOrder(kept, recipe.batch, recipe.steps, recipe.seed, start, rank, ranks)
    return make_loader(TileBatches(tiles, cells, partner), order, workers, pin)


def _callbacks(
    recipe: PretrainRecipe, tiles: TileStore, patch_px: int, out: Path, quiet: bool
) -> list[pl.Callback]:
    last, every = out / "last.ckpt", recipe.checkpoint_every_steps
    warmup = round(recipe.optimiser.warmup_share * recipe.steps)
    watched = np.flatnonzero(held_out(list(tiles.tile_ids), recipe.holdout, recipe.seed))[:WATCHED_TILES]
    whole = tiles.spec.size_px // patch_px * patch_px
    images = np.zeros((0, whole, whole, 3), np.uint8)
    if len(watched):
        images = np.stack([tiles.image(int(i))[:whole, :whole] for i in watched])
    # In this order: what is broken is neither logged nor saved, and what is saved has been logged.
    return [
        Guard(warmup, (recipe.log_every_steps, every), last),
        Log(recipe.log_every_steps, torch.from_numpy(images).permute(0, 3, 1, 2), every),
        Checkpoint(last, every),
        Bar(f"Pretraining {out.name}", quiet),
    ]


def _precision(recipe: PretrainRecipe, on_gpu: bool) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16-mixed" if on_gpu else "32-true"


def _typical_scale(recipe: PretrainRecipe, tile_px: int) -> float:
    """Tile pixels per view pixel of the mean crop."""
    low, high = recipe.views.crop_area
    return math.sqrt((low + high) / 2) * tile_px / recipe.views.size_px


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Initialise weights from the seed, and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips: what the user should know, this package says itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*")
        warnings.filterwarnings("ignore", message=".*`isinstance\\(treespec, LeafSpec\\)`.*")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
