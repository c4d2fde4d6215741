"""`last.ckpt`, the state that a run goes on from, and the digests by which a damaged one is known."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from dirl.core.boundary import parsing
from dirl.core.digests import sha256
from dirl.core.errors import StoreError
from dirl.core.files import put_in_place, read_json, remove, write_json

REMEDY = "remove it, and run the same `dirl pretrain` again: training begins anew"
KEPT = 3  # digests of earlier states, of which a stop between two writes can leave one


def digests_file(checkpoint: Path) -> Path:
    """Where the digests of a checkpoint lie."""
    return checkpoint.with_name(f"{checkpoint.name}.json")


class PlainFiles(TorchCheckpointIO):
    """Write a state to the place that is named; Lightning's own way is by a copy in the system's folder."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a state."""
        with Path(path).open("wb") as handle:
            torch.save(checkpoint, handle)


def put_checkpoint(part: Path, checkpoint: Path) -> None:
    """Let a state that is written take the place of the last one.

    Its digest comes first, beside those of earlier ones: whichever state a stop leaves, its digest is known.
    """
    known = [sha256(part), *_digests(checkpoint)]
    write_json(digests_file(checkpoint), {"sha256": known[:KEPT]})
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
    """Remove a state that nothing needs any more."""
    remove(checkpoint)
    remove(digests_file(checkpoint))


def _digests(checkpoint: Path) -> list[str]:
    path = digests_file(checkpoint)
    if not path.exists():
        return []
    remedy = f"remove {checkpoint.name} and it, and run the same `dirl pretrain` again"
    found = read_json(path, remedy)
    with parsing(path, remedy=remedy):
        return [str(one) for one in found["sha256"]]
