"""AdamW, its parameter groups, and the schedules of rate and weight decay."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from dirl.config import OptimiserConfig
from dirl.core.errors import ConfigError
from dirl.encoders.vit import ViT

STEM = ("patch_embed", "norm_pre")
STEM_TOKENS = ("cls_token", "reg_token", "pos_embed")


def make_optimiser(
    modules: Mapping[str, nn.Module], config: OptimiserConfig, batch: int, steps: int
) -> tuple[AdamW, LambdaLR]:
    """Make the optimiser of everything that is trained, and the schedule of its rate, stepped every step.

    The encoder, a `ViT` or a timm model, is under ``encoder``; all other modules are trained at the full
    rate. `batch` counts the tiles of a step, over all devices and accumulated parts.
    """
    lr = peak_lr(config, batch)
    optimiser = AdamW(parameter_groups(modules, config, lr), lr=lr, betas=config.betas)
    factor = partial(lr_factor, steps=steps, config=config, batch=batch)
    return optimiser, LambdaLR(optimiser, factor)


def parameter_groups(
    modules: Mapping[str, nn.Module], config: OptimiserConfig, lr: float
) -> list[dict[str, Any]]:
    """Group what is trained by rate and by weight decay, as torch's optimisers take it.

    Biases and vectors (norms, layer scales) do not decay. Everything else does, also class, register and
    position embeddings, as in DINO, MAE and DINOv2. `set_weight_decay` changes the groups with ``decays``.

    With layer decay, the last block and the final norm have the full rate, `lr`, and each block before has
    one factor less. The stem (patch, class, register, position and mask embeddings) has one less than the
    first block. Parameters without a gradient are left out.
    """
    if config.layer_decay == 1:
        groups = param_groups_weight_decay(nn.ModuleDict(dict(modules)), 1.0)
    else:
        encoder: Any = modules["encoder"]
        others = nn.ModuleDict({name: module for name, module in modules.items() if name != "encoder"})
        vit = encoder.vit if isinstance(encoder, ViT) else encoder
        groups = param_groups_layer_decay(vit, 1.0, layer_decay=config.layer_decay)
        if isinstance(encoder, ViT):
            own = nn.ParameterList(p for name, p in encoder.named_parameters() if not name.startswith("vit."))
            lowest = config.layer_decay ** len(vit.blocks)
            groups += [{**group, "lr_scale": lowest} for group in param_groups_weight_decay(own, 1.0)]
        groups += param_groups_weight_decay(others, 1.0)
    return [
        {
            "params": group["params"],
            "lr": lr * group.get("lr_scale", 1.0),
            "weight_decay": config.weight_decay * group["weight_decay"],
            "decays": bool(group["weight_decay"]),
        }
        for group in groups
    ]


def peak_lr(config: OptimiserConfig, batch: int) -> float:
    """Rate after the warm-up; it grows with the batch."""
    return config.lr * batch / 256


def lr_factor(step: int, steps: int, config: OptimiserConfig, batch: int) -> float:
    """Share of the peak rate at a step: a linear warm-up, then half a cosine down to ``min_lr``."""
    warmup = round(config.warmup_share * steps)
    baseline = min(config.min_lr / peak_lr(config, batch), 1.0)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    return baseline + (1 - baseline) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def weight_decay_at(step: int, steps: int, config: OptimiserConfig) -> float:
    """Weight decay at a step: half a cosine from the first to ``weight_decay_end``, reached at the last."""
    if config.weight_decay_end is None:
        return config.weight_decay
    # Imported here, so that a fine-tuning, which uses the optimiser alone, does not import lightly.
    from lightly.utils.scheduler import cosine_schedule

    return float(cosine_schedule(min(step, steps), steps, config.weight_decay, config.weight_decay_end))


def set_weight_decay(optimiser: torch.optim.Optimizer, value: float) -> None:
    """Set the decay of the groups that decay."""
    for group in optimiser.param_groups:
        if group["decays"]:
            group["weight_decay"] = value


def freeze(encoder: ViT, blocks: int) -> None:
    """Freeze the first blocks of an encoder, and the embeddings below them; 0 freezes nothing.

    These are the patch kernel and class, register and position embeddings. If they changed, the frozen blocks
    would get an input that they were not trained on. The mask token is still trained: it has no earlier value
    to keep.
    """
    vit = encoder.vit
    if blocks > len(vit.blocks):
        reason = f"the encoder has {len(vit.blocks)} blocks, not {blocks}"
        raise ConfigError(reason, where="encoder.frozen_blocks", remedy=f"use at most {len(vit.blocks)}")
    if not blocks:
        return
    for part in (*(getattr(vit, name) for name in STEM), *vit.blocks[:blocks]):
        part.requires_grad_(False)
    for name in STEM_TOKENS:
        token = getattr(vit, name)
        if token is not None:
            token.requires_grad_(False)
