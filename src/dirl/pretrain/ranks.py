"""Several processes of one run: their ranks, and the directory that they share."""

import os
import time
from datetime import datetime
from pathlib import Path

from dirl.core.card import Card, read_card
from dirl.core.claim import claim
from dirl.core.errors import TrainingError
from dirl.core.layout import CARD

CLAIM_SECONDS = 60
RANK_NAMES = ("RANK", "LOCAL_RANK", "SLURM_PROCID")


def get_rank() -> int:
    """Rank of this process, from the environment that torchrun, SLURM or Lightning sets."""
    return next((int(os.environ[name]) for name in RANK_NAMES if name in os.environ), 0)


def claim_together(out: Path, card: Card, overwrite: bool, began: datetime) -> Card:
    """Let the first process claim the directory, and the others wait for it.

    Parameters
    ----------
    out
        Directory of the run.
    card
        The run's card.
    overwrite
        Whether the first process may replace another run.
    began
        When this process began.

    Raises
    ------
    StoreError
        If the directory holds another run, see `dirl.core.claim.claim`.
    TrainingError
        If the first process does not claim it in time.
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
