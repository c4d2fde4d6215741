"""ViT and DINOv2 in the Hugging Face layout: names of weights, and reading without transformers.

Names and settings are those of files of transformers 5.23 (``ViTModel``, ``Dinov2Model``,
``Dinov2WithRegistersModel``). Older files of the hub have the same.
"""

import operator
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dirl.core.boundary import parsing
from dirl.core.errors import DirlWarning, EncoderError
from dirl.core.files import read_json
from dirl.core.hub import fetching
from dirl.encoders.timm_models import channels
from dirl.encoders.weights import read_weights

PREPROCESSOR = "preprocessor_config.json"
KINDS = ("vit", "dinov2", "dinov2_with_registers")
STEM = {
    "cls_token": "embeddings.cls_token",
    "reg_token": "embeddings.register_tokens",
    "mask_token": "embeddings.mask_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj": "embeddings.patch_embeddings.projection",
    "norm": "layernorm",
}
DINOV2 = {
    "norm1": "norm1",
    "norm2": "norm2",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "ls1.gamma": "layer_scale1.lambda1",
    "ls2.gamma": "layer_scale2.lambda1",
}
VIT = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
SWIGLU = {"mlp.fc1": "mlp.weights_in", "mlp.fc2": "mlp.weights_out"}
QKV = ("query", "key", "value")
BLOCK = re.compile(r"(?:encoder\.layer|blocks)\.(\d+)\.(.+)")
# Names that identify an encoder in a file, with any names of its blocks.
NAMES = tuple(f"{name}{leaf}" for name in STEM.values() for leaf in ("", ".weight", ".bias"))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class HfModel:
    """A Hugging Face model's weights by the file's names, and the arguments of the same timm model.

    The architecture decides only whether the MLP is SwiGLU. `side` is that of its images in pixels. `mean`
    and `std` by channel normalise images in 0..1.
    """

    weights: dict[str, Tensor]
    architecture: str
    arguments: dict[str, Any]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def from_hf(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights of a ViT or DINOv2 from transformers' names to timm's; other names stay."""
    stem = {hf: timm for timm, hf in STEM.items()}
    block = {hf: timm for names in (VIT, DINOV2, SWIGLU) for timm, hf in names.items()}
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for full, value in state.items():
        key = re.sub(rf"^(?:{'|'.join(KINDS)})\.", "", full)
        found = BLOCK.fullmatch(key)
        names, rest, ahead = (block, found[2], f"blocks.{found[1]}.") if found else (stem, key, "")
        module, _, leaf = rest.rpartition(".")
        part = module.removeprefix("attention.attention.")
        if found and part in QKV and part != module:
            parts.setdefault(f"{ahead}attn.qkv.{leaf}", {})[part] = value
        elif rest in names:
            renamed[ahead + names[rest]] = value
        else:
            renamed[f"{ahead}{names[module]}.{leaf}" if module in names else full] = value
    for key, three in parts.items():
        if len(three) == len(QKV):
            renamed[key] = torch.cat([three[part] for part in QKV])
    return renamed


def layer_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename layer scales of DeiT III, ``blocks.0.gamma_1``, to timm's ``blocks.0.ls1.gamma``."""
    return {re.sub(r"^(blocks\.\d+)\.gamma_([12])$", r"\1.ls\2.gamma", n): v for n, v in state.items()}


def to_hf(state: Mapping[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Rename weights of a plain timm ViT to transformers' names; the inverse of `from_hf`.

    A `KeyError` means that the kind has no name for one of them.
    """
    renamed: dict[str, Tensor] = {}
    for key, value in state.items():
        found = BLOCK.fullmatch(key)
        names, rest = (VIT if kind == "vit" else DINOV2, found[2]) if found else (STEM, key)
        ahead = f"encoder.layer.{found[1]}." if found else ""
        module, _, leaf = rest.rpartition(".")
        if module == "attn.qkv":
            for part, third in zip(QKV, value.chunk(3), strict=True):
                renamed[f"{ahead}attention.attention.{part}.{leaf}"] = third.contiguous()
        elif rest in names:
            renamed[ahead + names[rest]] = value
        else:
            renamed[f"{ahead}{names[module]}.{leaf}"] = value
    return renamed


def read_hf(name: str, *, weights: bool = True) -> HfModel:
    """Read a ViT or DINOv2 from the hub, or from a folder that ``save_pretrained`` wrote.

    `name` is the folder, with ``config.json`` and ``model.safetensors``, or ``owner/name`` on the hub.
    Without `weights` only the config is read.
    """
    where = f"hf:{name}"
    file, remedy = _file(name, "config.json"), "give a folder that save_pretrained wrote"
    what = "its config.json cannot be read"
    with parsing(where, remedy=remedy, kind=EncoderError, what=what):
        config = read_json(file, remedy, what, EncoderError)
        arguments = _arguments(config, where)
        side, patch = (operator.index(config[name]) for name in ("image_size", "patch_size"))
        if not 0 < patch <= side:
            raise ValueError(f"images of {side} px in patches of {patch} px")
    normalisation = _normalisation(name, config["model_type"])
    held = read_weights(_file(name, "model.safetensors")) if weights else {}
    architecture = "vit_giant_patch14_dinov2" if config.get("use_swiglu_ffn") else "vit_small_patch16_224"
    return HfModel(held, architecture, arguments, side, *normalisation)


def _arguments(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    kind = config.get("model_type")
    if kind not in KINDS:
        raise EncoderError(f"a model of type {kind!r}", where=where, remedy=f"there are: {', '.join(KINDS)}")
    if config.get("hidden_act", "gelu") != "gelu" or config.get("num_channels", 3) != 3:
        reason = f"activation {config.get('hidden_act')}, {config.get('num_channels')} channels"
        raise EncoderError(reason, where=where, remedy="use a model of RGB images with gelu")
    width, dino = config["hidden_size"], kind != "vit"
    arguments = {
        "img_size": config["image_size"],
        "patch_size": config["patch_size"],
        "embed_dim": width,
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "mlp_ratio": config.get("mlp_ratio", 4) if dino else config["intermediate_size"] / width,
        "qkv_bias": config.get("qkv_bias", True),
    }
    if dino:  # transformers resamples the positions of DINOv2 for images of any size
        arguments |= {"init_values": config.get("layerscale_value", 1.0), "dynamic_img_size": True}
    if config.get("use_swiglu_ffn"):
        # Two thirds of the MLP, rounded up to a multiple of eight, for the gate and for the gated values. A
        # quarter is added, since timm multiplies by the width again and rounds down.
        hidden = (int(int(width * config.get("mlp_ratio", 4)) * 2 / 3) + 7) // 8 * 8
        arguments["mlp_ratio"] = (2 * hidden + 0.25) / width
    if kind == "dinov2_with_registers":
        arguments |= {"reg_tokens": config.get("num_register_tokens", 4), "no_embed_class": True}
    return arguments


def _normalisation(name: str, kind: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    file = _preprocessor(name)
    if file is not None:
        with parsing(file, remedy="correct or remove it", kind=EncoderError):
            found = read_json(file, "correct or remove it", kind=EncoderError)
            if "image_mean" in found and "image_std" in found:
                return channels(found["image_mean"]), channels(found["image_std"])
    mean, std = HALF if kind == "vit" else IMAGENET
    warnings.warn(
        f"hf:{name}: no preprocessor_config.json with image_mean and image_std; normalised like most models "
        f"of its type, with the mean {mean} and the standard deviation {std}",
        category=DirlWarning,
        stacklevel=2,
    )
    return mean, std


def _preprocessor(name: str) -> Path | None:
    """Return the file with the normalisation, or None if there is no such file."""
    if Path(name).is_dir() and not (Path(name) / PREPROCESSOR).is_file():
        return None
    try:
        return _file(name, PREPROCESSOR)
    except EncoderError as error:
        from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

        # Only the hub's own answer proves that there is no such file.
        none = isinstance(error.__cause__, EntryNotFoundError)
        if not none or isinstance(error.__cause__, LocalEntryNotFoundError):
            raise
        return None


def _file(name: str, file: str) -> Path:
    if Path(name).is_dir():
        if (Path(name) / file).is_file():
            return Path(name) / file
        remedy = "give a folder that save_pretrained wrote, with one file of safetensors"
        raise EncoderError(f"contains no {file}", where=f"hf:{name}", remedy=remedy)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise EncoderError("no such folder", where=f"hf:{name}", remedy="give a folder, or owner/name")
    from huggingface_hub import hf_hub_download

    instead = "hf:FOLDER with config.json and model.safetensors"
    with fetching(name, file, name, instead, where=f"hf:{name}", kind=EncoderError):
        return Path(hf_hub_download(name, file))
