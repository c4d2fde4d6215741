"""What a format of an export is, and the tokens that every exported model must reproduce."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, TimmViT
from dirl.encoders.timm_models import read_folder


@dataclass(frozen=True)
class Format:
    """A layout of an exported encoder.

    Attributes
    ----------
    library, use
        Name of the library that reads it, as on the hub, and Python that runs it, for the model card.
    prepares
        What happens to tiles of another size than ``{tile}``, for the model card.
    write
        Writes the encoder's files into a folder.
    read_tokens
        Runs the folder's files on images in 0..1, (b, 3, h, w), with each program that is installed here.
        Returns class and patch tokens, (b, 1 + n, d), by the name of the program.
    """

    library: str
    use: str
    prepares: str
    write: Callable[[LoadedEncoder, Path], None]
    read_tokens: Callable[[LoadedEncoder, Path, Tensor], dict[str, Tensor]]


def view_px(encoder: LoadedEncoder) -> int:
    """Side of the training views in pixels, which the position embeddings fit."""
    return int(encoder.timm.patch_embed.img_size[0])


def transform_of(encoder: LoadedEncoder) -> Mapping[str, Any]:
    """Settings of timm's transform for the tiles that a run was trained on, and its input size."""
    return read_folder(Path(encoder.spec) / "encoder").normalisation


def tile_px(encoder: LoadedEncoder) -> int:
    """Side of the images that the model gets for a tile of the training, in pixels: whole patches."""
    return int(transform_of(encoder)["input_size"][-1])


def uncropped_px(encoder: LoadedEncoder) -> int:
    """Side of the tiles of the training in pixels, which timm's transform crops to `tile_px`."""
    return math.floor(tile_px(encoder) / float(transform_of(encoder).get("crop_pct", 1)))


@torch.inference_mode()
def class_and_patch_tokens(model: TimmViT, images: Tensor) -> Tensor:
    """Class token, then patch tokens in row-major order, (b, 1 + n, d), of a timm ViT, without registers.

    `images` are normalised, (b, 3, h, w).
    """
    return without_registers(model.forward_features(images), model.num_prefix_tokens - 1)


def without_registers(found: Tensor, registers: int) -> Tensor:
    """Leave out the tokens between the class token and the patch tokens."""
    return torch.cat([found[:, :1], found[:, 1 + registers :]], dim=1)


def same_architecture(encoder: LoadedEncoder, **changes: Any) -> Any:
    """Make the same architecture, with some other arguments and without its weights, in evaluation mode."""
    arguments = {**encoder.arguments, **changes, "num_classes": 0}
    return timm.create_model(encoder.architecture, **arguments).eval().requires_grad_(False)
