"""Lightning, set up for one run: devices, precision, what watches it, what it says."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import Logger
from torch.nn.attention import SDPBackend, sdpa_kernel

from dirl.config import PretrainRecipe
from dirl.core.device import on_gpu
from dirl.core.errors import ConfigError, Interrupted, TrainingError
from dirl.core.parallel import available_cores
from dirl.core.signals import starting_ranks
from dirl.pretrain.callbacks import Bar, Checkpoint, Guard, Log, PriorWatch
from dirl.pretrain.last_checkpoint import PlainFiles, read_checkpoint
from dirl.pretrain.logs import EventFiles, MetricsCsv, quiet_writers
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.signals import Signals
from dirl.pretrain.snapshots import choose_looks
from dirl.store.dataset import TileStore

# Not cuDNN's: in half precision its gradients were wrong, see docs/decisions/0016.
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
READERS = 4


@dataclass(frozen=True)
class Devices:
    """Where a run is trained.

    Attributes
    ----------
    gpu
        On GPUs, else on the CPU.
    each
        Devices, or processes, of a machine.
    nodes
        Machines.
    """

    gpu: bool
    each: int
    nodes: int

    @property
    def ranks(self) -> int:
        """Processes that share each batch."""
        return self.each * self.nodes


def choose_devices(device: str, devices: int | None, nodes: int) -> Devices:
    """Turn what a user asked for into devices.

    Raises
    ------
    ConfigError
        If there are none such.
    """
    gpu = on_gpu(device)
    there = torch.cuda.device_count() if gpu else 1
    if gpu and devices and devices > there:
        raise ConfigError(
            f"there {'is 1 GPU' if there == 1 else f'are {there} GPUs'} here",
            where=f"{devices} devices",
            remedy="ask for no more, or take the device cpu",
        )
    return Devices(gpu, devices or there, nodes)


def train(
    module: PretrainModule,
    recipe: PretrainRecipe,
    tiles: TileStore,
    out: Path,
    where: Devices,
    quiet: bool,
    tracker: Logger | None = None,
) -> pl.Trainer:
    """Train until the recipe's last step or a signal, from the last checkpoint where there is one.

    Raises
    ------
    TrainingError
        If the loss is not finite, the embeddings collapse, or memory runs out.
    Interrupted
        If a signal came; the state after the step at hand is saved.
    KeyboardInterrupt
        If one came before training began, or Ctrl-C came twice.
    """
    last = out / "last.ckpt"
    start = saved_step(last)
    tensorboard = EventFiles(out, name="", version="tensorboard", purge_step=start or None)
    signals = Signals(recipe.log_every_steps)
    with (
        _quiet_lightning(),
        quiet_writers(),
        _memory_explained(recipe, where.ranks),
        sdpa_kernel(ATTENTION),
        starting_ranks(),
    ):
        trainer = pl.Trainer(
            accelerator="gpu" if where.gpu else "cpu",
            devices=where.each,
            num_nodes=where.nodes,
            strategy="ddp" if where.ranks > 1 else "auto",
            precision=_precision(recipe, where.gpu),
            max_steps=recipe.steps,
            accumulate_grad_batches=recipe.optimiser.accumulate,
            gradient_clip_val=recipe.optimiser.clip_norm,
            logger=[MetricsCsv(out / "metrics.csv", start), tensorboard, *([tracker] if tracker else [])],
            callbacks=[signals, *callbacks(recipe, tiles, module.encoder.patch_px, out, quiet)],
            log_every_n_steps=1,  # nothing goes through it: see monitors.Log
            use_distributed_sampler=False,
            enable_checkpointing=False,
            plugins=[PlainFiles()],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        if tracker is not None:
            tracker.log_hyperparams(recipe.model_dump(mode="json"))
        # Lightning's handlers talk to the other ranks, and hang where those are elsewhere.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        try:
            trainer.fit(module, ckpt_path=last if start else None, weights_only=True)
        except SystemExit as left:  # Lightning's answer to a KeyboardInterrupt
            if isinstance(left.__context__, KeyboardInterrupt):
                raise left.__context__ from None
            raise
        except RuntimeError as error:
            if signals.came is None or where.ranks == 1:
                raise
            raise Interrupted(signals.came) from error  # another rank ended before it had begun to train
    if signals.came is not None:
        raise Interrupted(signals.came)
    return trainer


def saved_step(checkpoint: Path) -> int:
    """Steps that a run has behind it by its checkpoint; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    return int(read_checkpoint(checkpoint)["global_step"])


def callbacks(
    recipe: PretrainRecipe, tiles: TileStore, patch_px: int, out: Path, quiet: bool
) -> list[pl.Callback]:
    """Make what watches a run, but for signals, which come first."""
    last, every = out / "last.ckpt", recipe.checkpoint_every_steps
    warmup = round(recipe.optimiser.warmup_share * recipe.steps)
    # In this order: what is broken is neither logged nor saved, and what is saved has been logged.
    return [
        Guard(warmup, recipe.log_every_steps, every, last),
        PriorWatch(recipe.cells, recipe.log_every_steps),
        Log(recipe.log_every_steps, choose_looks(recipe, tiles, patch_px), every),
        Checkpoint(last, every),
        Bar(f"Pretraining {out.name}", quiet),
    ]


def _precision(recipe: PretrainRecipe, on_gpu: bool) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    if recipe.precision != "auto":
        return recipe.precision
    return "bf16-mixed" if on_gpu else "32-true"


def choose_workers(asked: int | None, device: str, share: int | None = None) -> int:
    """Choose how many processes read tiles for a run.

    Parameters
    ----------
    asked
        As many, if it is a number.
    device
        On a CPU, which is slower than reading, none; beside a GPU, which waits for it half of the time, four.
    share
        But no more than one of so many parts of the cores; None is one for each GPU.
    """
    if asked is not None:
        return asked
    if not on_gpu(device):
        return 0
    return min(READERS, available_cores() // (share or torch.cuda.device_count()))


@contextmanager
def _memory_explained(recipe: PretrainRecipe, ranks: int) -> Iterator[None]:
    """Say what to do where memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise TrainingError(
                "too little shared memory for the processes that read tiles",
                where="workers",
                remedy="take 0 workers, or give the container more, as with `docker run --shm-size=2g`",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        held = recipe.batch // (recipe.optimiser.accumulate * ranks)
        raise TrainingError(
            f"out of memory with {held} tiles at a time on each device, of {recipe.views.size_px} px "
            f"in {recipe.views.count + recipe.views.local_count} views",
            where=f"batch {recipe.batch}",
            remedy="raise optimiser.accumulate, set encoder.checkpoint_blocks=true, or lower batch",
        ) from error


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
