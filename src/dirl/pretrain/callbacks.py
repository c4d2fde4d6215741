"""Callbacks of a run: signals, divergence, collapse, warnings about the prior, log, checkpoints, progress."""

import math
import signal
import warnings
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from dirl.core.errors import DirlWarning, TrainingError
from dirl.core.files import remove
from dirl.core.full_disk import writing
from dirl.core.layout import part_of
from dirl.core.progress import bar
from dirl.core.signals import TO_ALL, not_ignored, patient
from dirl.objectives.distributed import ranks
from dirl.pretrain.data import Schedule
from dirl.pretrain.last_checkpoint import put_checkpoint
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.snapshots import Snapshot

COLLAPSED_STD = 0.02
PATIENCE = 5
TOO_MUCH = 0.9
WINDOW, LEAST = 20, 3
# Metrics that deserve a warning when they are near 1, and its text.
WORRIES = {
    "prior/absent/nuclei": "{share:.0%} of the views show no nuclei, so the dense term has little to match: "
    "look at the pictures of the cells {cells!r}, take another segmenter or a larger views.crop_area, or "
    "lower dense.min_area",
    "prior/area": "nuclei cover {share:.0%} of the views, so the prior separates nothing: look at the "
    "pictures of the cells {cells!r}; the segmenter or the mpp of the slides may be wrong",
}


def agreed(module: PretrainModule, name: str) -> float:
    """Return a metric of the last step, averaged over ranks; all ranks must call it."""
    value = torch.as_tensor(module.metrics[name], dtype=torch.float64, device="cpu")
    if ranks() > 1:
        on_device = value.float().to(module.device)
        dist.all_reduce(on_device)
        return float(on_device) / ranks()
    return float(value)


class StepCallback(pl.Callback):
    """A callback that acts after each step; with accumulation, only the last of several batches ends one."""

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Act if this batch ended a step."""
        assert isinstance(module, PretrainModule)
        if module.stepped:
            self.after_step(trainer, module)

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Act after a step."""
        raise NotImplementedError


class Guard(StepCallback):
    """Stop a run whose loss is not finite or whose embeddings have collapsed, and say what to try.

    It checks when metrics are logged and before every checkpoint, so that no checkpoint holds a broken state.
    Collapse: the embeddings' standard deviation (see `spread_metrics`) is below 0.02 at five logged steps in
    a row after the warm-up.
    """

    def __init__(self, warmup_steps: int, schedule: Schedule, last: Path) -> None:
        self.warmup_steps, self.schedule, self.last = warmup_steps, schedule, last
        self.collapsed = 0

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Check the last step."""
        step = trainer.global_step
        logged = step % self.schedule.log_every == 0
        saved = step % self.schedule.save_every == 0 or step == trainer.max_steps or trainer.should_stop
        if not (logged or saved):
            return
        loss = agreed(module, "loss")
        # A finite loss may have had gradients that are not.
        whole = all(bool(torch.isfinite(p).all()) for p in module.parameters() if p.requires_grad)
        if not (math.isfinite(loss) and whole):
            what = f"the loss is {loss}" if not math.isfinite(loss) else "weights are not finite"
            raise TrainingError(
                f"{what} at step {step}",
                where=self.last.parent,
                remedy="lower optimiser.lr or optimiser.clip_norm, lengthen optimiser.warmup_share, or set "
                "precision=32-true, and run again with --overwrite; "
                f"the last good state is in {self.last.name}",
            )
        if not logged:
            return
        std = agreed(module, "embedding/std")
        self.collapsed = self.collapsed + 1 if step > self.warmup_steps and std < COLLAPSED_STD else 0
        if self.collapsed >= PATIENCE:
            raise TrainingError(
                f"the embeddings have collapsed: their standard deviation is {std:.3g} at step {step} "
                "(1 when spread evenly, 0 for a single point)",
                where=self.last.parent,
                remedy="lower optimiser.lr, lengthen optimiser.warmup_share, raise batch or the objective's "
                "temperature, and run again with --overwrite",
            )


class PriorWatch(StepCallback):
    """Warn once if the views have hardly any nuclei, and once if they have hardly anything else.

    "Hardly any" is 10 %, of the views or of their area. It is an average over the last 20 logged steps. At
    least three steps must be logged. `cells` is the name of the cells.
    """

    def __init__(self, cells: str, every_steps: int) -> None:
        self.cells, self.every_steps = cells, every_steps
        self.seen: dict[str, deque[float]] = {name: deque(maxlen=WINDOW) for name in WORRIES}

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Check the logged steps."""
        if trainer.global_step % self.every_steps:
            return
        for name in [name for name in self.seen if name in module.metrics]:
            values = self.seen[name]
            values.append(agreed(module, name))
            share = sum(values) / len(values)
            if len(values) >= LEAST and share > TOO_MUCH:
                del self.seen[name]
                if trainer.is_global_zero:
                    warnings.warn(
                        WORRIES[name].format(share=share, cells=self.cells),
                        category=DirlWarning,
                        stacklevel=2,
                    )


class Checkpoint(StepCallback):
    """Save `last.ckpt`: it is written beside the last one, then renamed, so it is always complete."""

    def __init__(self, path: Path, every_steps: int) -> None:
        self.path, self.every_steps = path, every_steps

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Save if a checkpoint is due, and before a run stops."""
        due = trainer.global_step % self.every_steps == 0 or trainer.global_step == trainer.max_steps
        due = due or trainer.should_stop
        if due:
            part = part_of(self.path)
            try:
                with writing(self.path, part):
                    trainer.save_checkpoint(part)
                    if trainer.is_global_zero:
                        put_checkpoint(part, self.path)
            finally:
                remove(part)


class Log(StepCallback):
    """Write a step's metrics to the loggers and, when a checkpoint is due, snapshots of the encoder."""

    def __init__(self, schedule: Schedule, snapshots: Sequence[Snapshot]) -> None:
        self.schedule, self.snapshots = schedule, snapshots

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Write if it is due; a row's number is the number of steps that are done."""
        step, row = trainer.global_step, {}
        if step % self.schedule.log_every == 0:
            row = {name: agreed(module, name) for name in module.metrics}
            # The rate of the heads and the last block; with layer decay the blocks below have less.
            row["lr"] = max(group["lr"] for group in trainer.optimizers[0].param_groups)
        if step % self.schedule.save_every == 0 and trainer.is_global_zero:
            module.encoder.eval()
            with torch.no_grad():
                for snapshot in self.snapshots:
                    row |= snapshot(module.encoder)
            module.encoder.train()
        for logger in trainer.loggers if row else []:
            logger.log_metrics(row, step=step)


class Bar(StepCallback):
    """Show the run's progress and its loss."""

    def __init__(self, description: str, quiet: bool) -> None:
        self.description, self.quiet = description, quiet
        self.stack = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin at the step at which training begins."""
        hidden = self.quiet or not trainer.is_global_zero
        self.advance = self.stack.enter_context(bar(self.description, int(trainer.max_steps), quiet=hidden))
        self.advance(trainer.global_step)

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Advance. The loss is read only at logged steps, since reading it waits for the device."""
        due = trainer.global_step % module.schedule.log_every == 0
        self.advance(1, note=f"loss {float(module.metrics['loss']):.3f}" if due else None)

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Close the bar."""
        self.stack.close()


class Signals(StepCallback):
    """Stop a run between two steps after a signal; a second Ctrl-C stops at once.

    All ranks must stop at the same step, so they compare every `agree_every` steps. After that, all ranks
    hold the same signal number in `came`.
    """

    def __init__(self, agree_every: int) -> None:
        self.agree_every = agree_every
        self.came: int | None = None
        self.earlier: dict[int, Any] = {}
        self.patience = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Catch signals, if this thread may."""
        try:
            self.earlier = {number: signal.signal(number, self._note) for number in not_ignored(TO_ALL)}
        except ValueError:  # not the main thread, which alone can catch signals
            self.earlier = {}
        self.patience.enter_context(patient())

    def after_step(self, trainer: pl.Trainer, module: PretrainModule) -> None:
        """Stop after this step if any rank has received a signal."""
        if trainer.world_size > 1:
            if trainer.global_step % self.agree_every:
                return
            number = torch.tensor([self.came or 0], dtype=torch.int32, device=module.device)
            dist.all_reduce(number, op=dist.ReduceOp.MAX)
            self.came = int(number.item()) or None
        trainer.should_stop = trainer.should_stop or self.came is not None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Restore the handlers. At teardown Lightning has restored its own, and this would undo it."""
        self._restore()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Restore the handlers."""
        self._restore()

    def _restore(self) -> None:
        self.patience.close()
        for number, handler in self.earlier.items():
            signal.signal(number, handler)
        self.earlier = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        earlier = self.earlier.get(number)
        if self.came is not None and number == signal.SIGINT and callable(earlier):
            earlier(number, frame)
        self.came = number
