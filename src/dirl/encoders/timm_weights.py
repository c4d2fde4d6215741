"""Weights of a file into a timm model, whatever names the tool gave them that wrote the file."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dirl.core.boundary import parsing
from dirl.core.errors import EncoderError
from dirl.encoders.adapt import Fitted
from dirl.encoders.checkpoint_layouts import take_encoder
from dirl.encoders.huggingface import NAMES, from_hf, layer_scales
from dirl.encoders.weights import check_finite, read_weights


def load_weights(model: Any, path: Path) -> None:
    """Load a file's weights into a timm model, all of them or none, and print which were used.

    timm's own filter of the architecture renames the keys of other tools' checkpoints and resamples position
    embeddings. Other weights of the file are left out; see `take_encoder`.
    """
    head = model.pretrained_cfg.get("classifier") or ()
    heads = ("head.", *(f"{part}." for part in ((head,) if isinstance(head, str) else head)))
    own: dict[str, Tensor] = model.state_dict()

    def adapted(weights: dict[str, Tensor]) -> Fitted:
        return _adapt(weights, model, own, path)

    taken = take_encoder(read_weights(path), [*own, *NAMES], adapted, path, heads=heads)
    model.load_state_dict(taken.fitted.state)
    check_finite(model.state_dict(), path)
    taken.print_source(path)


def _adapt(weights: dict[str, Tensor], model: Any, own: Mapping[str, Tensor], path: Path) -> Fitted:
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    state = _renamed(weights, own)
    if "register_tokens" in state or "blocks.0.mlp.w12.weight" in state:
        state.setdefault("mask_token", torch.empty(0))  # timm recognises DINOv2's names by it
    try:  # the filter may fail in any way on another tool's file
        with parsing(path, remedy="", kind=EncoderError, what="timm cannot convert it"):
            state = convert(state, model) if convert else state
    except EncoderError:
        missing = tuple(name for name in own if name not in weights)
        if not missing:
            raise
        return Fitted({}, (), missing, ())
    shared = [name for name in own if name in state]
    for name in shared:
        if state[name].shape != own[name].shape:
            there, here = tuple(state[name].shape), tuple(own[name].shape)
            raise EncoderError(f"{name} has shape {there}, but the model needs {here}", where=path)
    return Fitted(
        state={name: state[name] for name in shared},
        changed=tuple(n for n in shared if n in weights and weights[n].shape != state[n].shape),
        missing=tuple(name for name in own if name not in state),
        unexpected=tuple(name for name in state if name not in own),
    )


def _renamed(weights: dict[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights from transformers' names, and layer scales from DeiT III's names, to timm's."""
    state = from_hf(weights) if any(name.startswith("embeddings.") for name in weights) else dict(weights)
    return layer_scales(state) if any(".ls1." in name for name in own) else state
