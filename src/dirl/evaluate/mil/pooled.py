"""The output of every slide model for a bag of tiles."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class Pooled:
    """A slide model's output for a bag.

    Attributes
    ----------
    streams : Tensor of shape (s, k)
        Logits of the k classes, or a log risk (k = 1), from each of the model's streams. The loss is the mean
        of the streams' losses, the prediction that of their mean.
    attention : Tensor of shape (n,)
        Share of each tile in what the bag is pooled to; sums to 1.
    auxiliary : Tensor of shape ()
        The model's own addition to the loss.
    """

    streams: Tensor
    attention: Tensor
    auxiliary: Tensor


class SlideModel(Protocol):
    """A network that pools the tiles of a slide, of any number."""

    def __call__(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag of tiles (n, d); the label only if the model is trained on it."""
