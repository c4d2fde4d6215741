"""What a format of an export is, and the tokens that every exported model must reproduce."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, TimmViT


@dataclass(frozen=True)
class Format:
    """A layout of an exported encoder.

    Attributes
    ----------
    library, use
        Name of the library that reads it, as on the hub, and Python that runs it, for the model card.
    write
        Writes the encoder's files into a folder.
    read_tokens
        Runs the folder's files on images in 0..1, (b, 3, h, w), with each program that is installed here.
        Returns class and patch tokens, (b, 1 + n, d), by the name of the program.
    """

    library: str
    use: str
    write: Callable[[LoadedEncoder, Path], None]
    read_tokens: Callable[[LoadedEncoder, Path, Tensor], dict[str, Tensor]]


def side_of(encoder: LoadedEncoder) -> int:
    """Side of the images, in pixels, that the position embeddings fit."""
    return int(encoder.timm.patch_embed.img_size[0])


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
