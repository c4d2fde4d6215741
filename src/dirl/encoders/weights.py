"""A file's weights into a model: all of them, or an error."""

import hashlib
import sys
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from dirl.errors import EncoderError, first_line


def load_weights(model: Any, path: Path) -> None:
    """Load a file's weights into a timm model, all of them or none.

    timm's own filter of the architecture renames the keys of foreign checkpoints and resamples position
    embeddings; only the classifier's weights may be left over.

    Raises
    ------
    EncoderError
        If the file is not there, cannot be read as weights, or does not fit.
    """
    if not path.is_file():
        raise EncoderError("no such file", where=path, remedy="name a .safetensors or torch checkpoint")
    state = read_weights(path)
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    try:
        fitted = convert(state, model) if convert else state
        report = model.load_state_dict(fitted, strict=False)
    except Exception as error:  # a filter meets whatever a stranger's file holds
        raise EncoderError(f"does not fit the model ({first_line(error)})", where=path) from error
    head = model.pretrained_cfg.get("classifier") or ()
    heads = ("head.", *(f"{part}." for part in ((head,) if isinstance(head, str) else head)))
    surplus = [key for key in report.unexpected_keys if not key.startswith(heads)]
    if report.missing_keys or surplus:
        reason = f"does not fit the model: {len(report.missing_keys)} weights missing, {len(surplus)} unknown"
        example = [*report.missing_keys, *surplus][0]
        raise EncoderError(f"{reason} (such as {example})", where=path, remedy="name the file of this model")


def read_weights(path: Path) -> dict[str, Any]:
    """Read the weights that a file holds, by name, without running what it holds.

    Raises
    ------
    EncoderError
        If it cannot be read as weights.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = f"cannot be read as weights ({first_line(error)})"
        remedy = "a .safetensors file, or a torch checkpoint that holds only weights"
        raise EncoderError(reason, where=path, remedy=remedy) from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict):
        raise EncoderError("holds no weights", where=path, remedy="name a dictionary of weights")
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in held.items()}


def weights_digest(model: nn.Module) -> str:
    """Sixteen hex digits of the SHA-256 of a model's weights, by name and value."""
    total = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        total.update(key.encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()[:16]
