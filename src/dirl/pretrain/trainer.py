"""Lightning, set up for one run: devices, precision, messages."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers.logger import Logger
from torch.nn.attention import SDPBackend, sdpa_kernel

from dirl.config import Precision
from dirl.core.errors import Interrupted, TrainingError
from dirl.core.signals import starting_ranks
from dirl.pretrain.callbacks import Signals
from dirl.pretrain.devices import Devices
from dirl.pretrain.last_checkpoint import PlainFiles, read_checkpoint
from dirl.pretrain.loggers import EventFiles, MetricsCsv, quiet_writers
from dirl.pretrain.module import PretrainModule

# Without cuDNN's: in half precision its gradients were wrong, see docs/decisions/0016.
ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]


def train(
    module: PretrainModule,
    out: Path,
    where: Devices,
    *,
    precision: Precision,
    clip_norm: float | None,
    callbacks: Sequence[pl.Callback],
    tracker: Logger | None = None,
) -> pl.Trainer:
    """Train until the last step or a signal, from the last checkpoint in `out` if there is one.

    The `callbacks` act in their order. `tracker` is a logger beside ``metrics.csv`` and TensorBoard's files.
    After a signal the state of the current step is saved, and `Interrupted` is raised. Ctrl-C before training
    began, or twice, is a `KeyboardInterrupt`.
    """
    last = out / "last.ckpt"
    start = saved_step(last)
    tensorboard = EventFiles(out, name="", version="tensorboard", purge_step=start or None)
    schedule = module.schedule
    signals = Signals(schedule.log_every)
    with (
        _quiet_lightning(),
        quiet_writers(),
        _memory_explained(module, where.ranks),
        sdpa_kernel(ATTENTION),
        starting_ranks(),
    ):
        trainer = pl.Trainer(
            accelerator="gpu" if where.gpu else "cpu",
            devices=where.each,
            num_nodes=where.nodes,
            strategy="ddp" if where.ranks > 1 else "auto",
            precision=_precision(precision, where.gpu),
            max_steps=schedule.steps,
            accumulate_grad_batches=schedule.parts,
            gradient_clip_val=clip_norm,
            logger=[MetricsCsv(out / "metrics.csv", start), tensorboard, *([tracker] if tracker else [])],
            callbacks=[signals, *callbacks],
            log_every_n_steps=1,  # unused: see `dirl.pretrain.callbacks.Log`
            use_distributed_sampler=False,
            enable_checkpointing=False,
            plugins=[PlainFiles()],
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        # Lightning's handlers wait for the other ranks, and hang if those are not in training.
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
            raise Interrupted(signals.came) from error  # another rank ended before its training began
    if signals.came is not None:
        raise Interrupted(signals.came)
    return trainer


def saved_step(checkpoint: Path) -> int:
    """Steps that a run has done by its checkpoint; 0 without one."""
    if not checkpoint.exists():
        return 0
    return int(read_checkpoint(checkpoint)["global_step"])


def _precision(asked: Precision, on_gpu: bool) -> Literal["32-true", "bf16-mixed", "16-mixed"]:
    if asked != "auto":
        return asked
    return "bf16-mixed" if on_gpu else "32-true"


@contextmanager
def _memory_explained(module: PretrainModule, ranks: int) -> Iterator[None]:
    """Say what to do if memory runs out."""
    try:
        yield
    except RuntimeError as error:
        if "shared memory" in str(error):
            raise TrainingError(
                "too little shared memory for the processes that read tiles",
                where="workers",
                remedy="use 0 workers, or give the container more: `docker run --shm-size=2g`",
            ) from error
        if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in str(error):
            raise
        schedule, views = module.schedule, module.views
        raise TrainingError(
            f"out of memory with {schedule.tiles_at_once(ranks)} tiles at a time on each device, of "
            f"{views.size_px} px in {views.count + views.local_count} views",
            where=f"batch {schedule.batch}",
            remedy="raise optimiser.accumulate, set encoder.checkpoint_blocks=true, or lower batch",
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips."""
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
