"""`last.ckpt`, the state from which a run continues, and its digests, which reveal damage."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dirl.core.boundary import parsing
from dirl.core.digests import sha256
from dirl.core.errors import StoreError
from dirl.core.files import put_in_place, read_json, remove, write_json

REMEDY = "remove it, and run the same `dirl pretrain` again: training starts from the beginning"
KEPT = 3  # digests of earlier states: a stop between two writes can leave one of them


def digests_file(checkpoint: Path) -> Path:
    """Return the file with the digests of a checkpoint."""
    return checkpoint.with_name(f"{checkpoint.name}.json")


class PlainFiles(TorchCheckpointIO):
    """Write a state directly to its path; Lightning itself first writes a copy to the system's folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a state."""
        with Path(path).open("wb") as handle:
            torch.save(checkpoint, handle)


def put_checkpoint(part: Path, checkpoint: Path) -> None:
    """Replace the last state by a new one, which is written already.

    Its digest is added first, beside those of earlier states. So at any moment the state on disk has its
    digest in the file.
    """
    digests = [sha256(part), *_digests(checkpoint)]
    write_json(digests_file(checkpoint), {"sha256": digests[:KEPT]})
    put_in_place(part, checkpoint)


def read_checkpoint(checkpoint: Path) -> dict[str, Any]:
    """Read a state, on the CPU.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    if sha256(checkpoint) not in _digests(checkpoint):
        reason = f"damaged: its SHA-256 is not in {digests_file(checkpoint).name}"
        raise StoreError(reason, where=checkpoint, remedy=REMEDY)
    with parsing(checkpoint, remedy=REMEDY):
        state: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=True)
    return state


def remove_checkpoint(checkpoint: Path) -> None:
    """Remove a state that is no longer needed."""
    remove(checkpoint)
    remove(digests_file(checkpoint))


def _digests(checkpoint: Path) -> list[str]:
    path = digests_file(checkpoint)
    if not path.exists():
        return []
    remedy = f"remove both files ({checkpoint.name} too), and run the same `dirl pretrain` again"
    found = read_json(path, remedy)
    with parsing(path, remedy=remedy):
        return [str(one) for one in found["sha256"]]
