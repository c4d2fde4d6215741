"""Class and patch tokens, which an exported model must reproduce."""

from typing import Any

import timm
import torch
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder


def side_of(encoder: LoadedEncoder) -> int:
    """Side of the images, in pixels, that the position embeddings fit."""
    model: Any = encoder.model
    return int(model.patch_embed.img_size[0])


@torch.inference_mode()
def tokens(model: Any, images: Tensor) -> Tensor:
    """Run a timm ViT and leave its registers out.

    Parameters
    ----------
    images : Tensor of shape (b, 3, h, w)
        Normalised.

    Returns
    -------
    Tensor of shape (b, 1 + n, d)
        Class token, then patch tokens in row-major order.
    """
    found: Tensor = model.forward_features(images)
    return without_registers(found, model.num_prefix_tokens - 1)


def without_registers(found: Tensor, registers: int) -> Tensor:
    """Leave out the tokens between the class token and the patch tokens."""
    return torch.cat([found[:, :1], found[:, 1 + registers :]], dim=1)


def twin(encoder: LoadedEncoder, **changes: Any) -> Any:
    """Make the same architecture with other arguments, without its weights, in evaluation mode."""
    arguments = {**encoder.arguments, **changes, "num_classes": 0}
    return timm.create_model(encoder.architecture, **arguments).eval().requires_grad_(False)
