"""Where a run is trained: its devices, the processes that share its batches, and those that read tiles."""

import os
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import torch

from dirl.core.card import Card, read_card
from dirl.core.claim import claim
from dirl.core.device import on_gpu
from dirl.core.errors import ConfigError, TrainingError
from dirl.core.layout import CARD
from dirl.core.parallel import available_cores

READERS = 4
CLAIM_SECONDS = 60
RANK_NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


@dataclass(frozen=True)
class Devices:
    """Where a run is trained: on `nodes` machines, with `each` GPUs or CPU processes."""

    gpu: bool
    each: int
    nodes: int

    @property
    def ranks(self) -> int:
        """Processes that share each batch."""
        return self.each * self.nodes


def choose_devices(device: str, devices: int | None, nodes: int) -> Devices:
    """Choose the devices that a user asked for; fewer, or none of this kind, are a `ConfigError`."""
    gpu = on_gpu(device)
    count = torch.cuda.device_count() if gpu else 1
    if gpu and devices and devices > count:
        raise ConfigError(
            f"this machine has {count} GPU{'s' if count != 1 else ''}",
            where=f"{devices} devices",
            remedy=f"use {count} or fewer devices, or the device cpu",
        )
    return Devices(gpu, devices or count, nodes)


def choose_workers(asked: int | None, device: str, share: int | None = None) -> int:
    """Choose how many processes read tiles for a run, if the user asked for no number.

    A CPU gets 0, since training is slower than reading; a GPU up to 4. The cores are shared by `share` runs;
    None is one for each GPU.
    """
    if asked is not None:
        return asked
    if not on_gpu(device):
        return 0
    return min(READERS, available_cores() // (share or torch.cuda.device_count()))


def get_rank() -> int:
    """Rank of this process, from the environment that torchrun, SLURM or Lightning sets."""
    return next((int(os.environ[name]) for name in RANK_NAMES if name in os.environ), 0)


def claim_together(out: Path, card: Card, overwrite: bool, began: datetime) -> Card:
    """Let the first process claim the run's directory, and the others wait for it.

    With `overwrite` the first process may replace another run. `began` is when this process began.
    """
    if not get_rank():
        return claim(out, card, overwrite=overwrite)
    for _ in range(CLAIM_SECONDS * 10):
        if (out / CARD).exists():
            found = read_card(out, "pretrain")
            # The run that is about to be replaced may have the same settings, but it is older.
            age = began - datetime.fromisoformat(found.started)
            if found.digest == card.digest and not (overwrite and age.total_seconds() > CLAIM_SECONDS):
                return found
        time.sleep(0.1)
    reason = f"process 0 has not claimed it within {CLAIM_SECONDS} s"
    raise TrainingError(reason, where=out, remedy="read the message of process 0")
