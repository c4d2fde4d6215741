"""Beside the entropy of the joint map: that at the size of the training's views, and by temperature alone."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.encoders.measures import normalised_entropy, renormalise

COLDEST, HOTTEST, STEPS = 0.1, 10.0, 40


def entropy_of_middles(encoder: LoadedEncoder, images: Tensor, side_px: int) -> NDArray[np.float32]:
    """Entropy (t,) of the last block's joint map, normalised, on the middle of images (t, 3, h, w), uint8."""
    top, left = (images.shape[-2] - side_px) // 2, (images.shape[-1] - side_px) // 2
    middles = images[..., top : top + side_px, left : left + side_px]
    last = attention_rows(encoder.model, preprocess(encoder, middles)).patches[:, -1].flatten(2)
    return normalised_entropy(renormalise(last.mean(dim=1))[1]).cpu().numpy()


def match_temperature(attention: Tensor, target: float) -> float | None:
    """Find the temperature of a softmax at which the joint map has a mean normalised entropy.

    Parameters
    ----------
    attention : Tensor of shape (t, heads, n)
        Attention of each head on the patch tokens. A head weighs as much as its patch mass, as in the joint
        map.
    target
        Mean normalised entropy of the heads' mean.

    Returns
    -------
    float or None
        Above 1 for a more even map. None if no temperature from 0.1 to 10 reaches the target.
    """
    mass = attention.sum(dim=(1, 2), keepdim=True)
    weights = attention.sum(dim=2, keepdim=True) / mass
    logits = attention.clamp(min=torch.finfo(torch.float32).tiny).log()

    def reached(temperature: float) -> float:
        joint = (weights * (logits / temperature).softmax(-1)).sum(dim=1)
        return float(normalised_entropy(joint).mean())

    low, high = math.log(COLDEST), math.log(HOTTEST)
    if not reached(COLDEST) <= target <= reached(HOTTEST):
        return None
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if reached(math.exp(middle)) < target else (low, middle)
    return math.exp((low + high) / 2)
