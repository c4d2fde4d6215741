"""A signal during training: the run finishes its step, saves its state and ends."""

import signal
from contextlib import ExitStack
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch
import torch.distributed as dist

from dirl.core.signals import TO_ALL, not_ignored, patient
from dirl.pretrain.module import PretrainModule

CAUGHT = TO_ALL  # SLURM can send SIGUSR1 before a job's time is up


class Signals(pl.Callback):
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
            self.earlier = {number: signal.signal(number, self._note) for number in not_ignored(CAUGHT)}
        except ValueError:  # not the main thread, which alone can catch signals
            self.earlier = {}
        self.patience.enter_context(patient())

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop after this step if any rank has received a signal."""
        assert isinstance(module, PretrainModule)
        if not module.stepped:
            return
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
