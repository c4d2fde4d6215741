"""What every slide model is and returns, and mean pooling, the baseline that attention has to beat."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Pooled:
    """A slide model's output for a bag of tiles.

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


class SlideModel(nn.Module):
    """A network that pools the tiles of a slide, of any number.

    Parameters
    ----------
    inputs
        Width of the features.
    outputs
        Classes, or 1 for a risk.
    width
        Of the hidden layers.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__()

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag of tiles (n, d); the label only if the model is trained on it."""
        raise NotImplementedError


class MeanPool(SlideModel):
    """A linear classifier of the mean of a bag's tiles, without a hidden layer."""

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__(inputs, outputs, width)
        self.head = nn.Linear(inputs, outputs)

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag; every tile has an equal share."""
        attention = tiles.new_full((len(tiles),), 1 / len(tiles))
        return Pooled(self.head(tiles.mean(dim=0))[None], attention, tiles.new_zeros(()))
