"""Mean pooling: the baseline that attention has to beat."""

from torch import Tensor, nn

from dirl.evaluate.mil.pooled import Pooled


class MeanPool(nn.Module):
    """A linear classifier of the mean of a bag's tiles.

    Parameters
    ----------
    inputs
        Width of the features.
    outputs
        Classes, or 1 for a risk.
    width
        Not needed; there is no hidden layer.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__()
        self.head = nn.Linear(inputs, outputs)

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag, as in `SlideModel`; every tile has an equal share."""
        attention = tiles.new_full((len(tiles),), 1 / len(tiles))
        return Pooled(self.head(tiles.mean(dim=0))[None], attention, tiles.new_zeros(()))
