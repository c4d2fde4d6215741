"""Converting weights of a vision transformer for another one of the same width and depth."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from timm.layers import resample_abs_pos_embed, resample_patch_embed
from torch import Tensor

from dirl.core.errors import EncoderError

KERNEL = "patch_embed.proj.weight"


@dataclass(frozen=True)
class Fitted:
    """Weights converted for a model, by its own names and in its own shapes.

    `changed` names those that were converted, `missing` the model's weights that the source lacks, and
    `unexpected` the source's weights that the model lacks.
    """

    state: dict[str, Tensor]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]


def adapt(
    weights: Mapping[str, Tensor], vit: Any, where: object, *, embedded: int | None = None, heads: int = 0
) -> Fitted:
    """Convert weights for a timm vision transformer of the same width, depth and MLP, with any grid.

    Position embeddings and the patch kernel are resampled. The function of the weights is kept if the two
    layouts differ:

    - If the model has no position for a prefix token, the position is added to the token.
    - If the model has no layer scale, the scale is multiplied into the layer before it.
    - If the weights have no layer scale, it becomes one.

    The weights have timm's names; `where` is their source, for errors. `embedded` is the number of prefix
    tokens at the start of the position embeddings; None finds it out. `heads` is the source's number of
    attention heads; 0 if unknown. The model is not changed.
    """
    own: dict[str, Tensor] = vit.state_dict()
    _same_architecture(weights, own, heads, vit.blocks[0].attn.num_heads, where)
    state = {key: value.detach().to(own[KERNEL].dtype) for key, value in weights.items()}
    scales = _layer_scale(state, own)
    for bias in (name for name in own if name.endswith(".attn.qkv.bias")):
        if f"{bias.removesuffix('bias')}weight" in state:
            state.setdefault(bias, torch.zeros_like(own[bias]))  # trained without one
    changed = [*_kernel(state, own, where), *scales]
    if "pos_embed" in state and "pos_embed" in own:
        changed += _positions(state, vit, embedded, where)
    tokens = state.get("reg_token")
    if tokens is not None and "reg_token" in own and tokens.shape != own["reg_token"].shape:
        del state["reg_token"]  # with another number of registers, the model learns its own
    fitting = {key: value for key, value in state.items() if key in own}
    for key, value in fitting.items():
        if value.shape != own[key].shape:
            reason = f"{key} has shape {tuple(value.shape)}, but the model needs {tuple(own[key].shape)}"
            raise EncoderError(reason, where=where, remedy="give weights of this architecture")
    return Fitted(
        fitting,
        tuple(key for key in dict.fromkeys(changed) if key in fitting),
        tuple(key for key in own if key not in fitting),
        tuple(key for key in weights if key not in fitting and key not in scales),
    )


def _same_architecture(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], heads: int, own_heads: int, where: object
) -> None:
    if KERNEL not in weights or "blocks.0.mlp.fc1.weight" not in weights:
        blocks = any(key.startswith("blocks.0.mlp.") for key in weights)
        reason = "its MLP is not a plain one (SwiGLU, as in DINOv2-giant)" if blocks else "not a plain ViT's"
        remedy = "give weights of a ViT or DINOv2 up to large, with timm's or transformers' names"
        raise EncoderError(f"these weights cannot be used: {reason}", where=where, remedy=remedy)
    # The weights do not show the number of heads: 6 × 64 and 12 × 32 have the same shapes.
    there, here = _architecture(weights, heads), _architecture(own, own_heads if heads else 0)
    if there != here:
        raise EncoderError(
            f"another architecture: the weights have {there}, the model has {here}",
            where=where,
            remedy="choose a matching encoder.name, width, depth and heads, or other weights",
        )


def _architecture(state: Mapping[str, Tensor], heads: int) -> str:
    depth = 1 + max(int(found[1]) for key in state if (found := re.match(r"blocks\.(\d+)\.", key)))
    blocks = f"{depth} blocks of width {state[KERNEL].shape[0]}"
    hidden = state["blocks.0.mlp.fc1.weight"].shape[0]
    return f"{blocks} with an MLP of {hidden}" + (f" and {heads} heads" if heads else "")


def _kernel(state: dict[str, Tensor], own: Mapping[str, Tensor], where: object) -> list[str]:
    kernel, size = state[KERNEL], own[KERNEL].shape[-2:]
    if kernel.ndim != 4 or kernel.shape[1] != own[KERNEL].shape[1]:
        raise EncoderError(f"{KERNEL} of shape {tuple(kernel.shape)} is not for RGB images", where=where)
    if kernel.shape[-2:] == size:
        return []
    state[KERNEL] = resample_patch_embed(kernel, list(size))
    return [KERNEL]


def _layer_scale(state: dict[str, Tensor], own: Mapping[str, Tensor]) -> list[str]:
    changed = []
    for scale in {key for key in (*state, *own) if re.fullmatch(r"blocks\.\d+\.ls[12]\.gamma", key)}:
        layer = scale.replace("ls1.gamma", "attn.proj").replace("ls2.gamma", "mlp.fc2")
        if scale in state and scale not in own:
            gamma = state.pop(scale)
            state[f"{layer}.weight"] = state[f"{layer}.weight"] * gamma[:, None]
            state[f"{layer}.bias"] = state[f"{layer}.bias"] * gamma
            changed += [scale, f"{layer}.weight", f"{layer}.bias"]
        elif scale in own and scale not in state:
            state[scale] = torch.ones_like(own[scale])
            changed.append(scale)
    return sorted(changed)


def _positions(state: dict[str, Tensor], vit: Any, embedded: int | None, where: object) -> list[str]:
    """Resample the positions of the grid, and convert those of prefix tokens if the layouts differ."""
    positions = state["pos_embed"]
    names = [name for name in ("cls_token", "reg_token") if name in state]
    prefix = sum(state[name].shape[1] for name in names)
    own_prefix = 0 if vit.no_embed_class else vit.num_prefix_tokens
    own_names = [name for name in ("cls_token", "reg_token") if getattr(vit, name) is not None]
    if embedded is None:
        options = [own_prefix, prefix, min(1, prefix), 0]
        embedded = next((n for n in options if _side(positions.shape[1] - n)), 0)
    side = _side(positions.shape[1] - embedded)
    if not side:
        reason = f"{positions.shape[1]} position embeddings do not form a square grid"
        raise EncoderError(reason, where=where, remedy="give weights that were trained on square images")
    grid = vit.patch_embed.grid_size
    patches = resample_abs_pos_embed(positions[:, embedded:], list(grid), [side, side], num_prefix_tokens=0)
    changed = ["pos_embed"] if (side, side) != tuple(grid) else []
    if embedded == own_prefix and (not embedded or (prefix == vit.num_prefix_tokens and names == own_names)):
        state["pos_embed"] = torch.cat([positions[:, :embedded], patches], dim=1)
        return changed
    at = 0
    for name in names:
        count = max(0, min(state[name].shape[1], embedded - at))
        if count:
            token = state[name].clone()
            token[:, :count] += positions[:, at : at + count]
            state[name] = token
            changed.append(name)
        at += count
    state["pos_embed"] = torch.cat([patches.new_zeros(1, own_prefix, patches.shape[-1]), patches], dim=1)
    return ["pos_embed", *changed]


def _side(tokens: int) -> int:
    """Side of a square grid with this number of tokens, or 0."""
    side = math.isqrt(max(0, tokens))
    return side if side * side == tokens else 0
