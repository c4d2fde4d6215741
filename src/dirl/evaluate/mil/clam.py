"""CLAM-SB: ABMIL with a second task, to separate the most attended tiles from the least attended ones."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dirl.evaluate.mil.abmil import ABMIL
from dirl.evaluate.mil.slide_model import Pooled

SAMPLED = 8
BAG_SHARE, TILE_SHARE = 0.7, 0.3


class CLAM(ABMIL):
    """Clustering-constrained attention, one branch (Lu et al. 2021, arXiv 2004.09666).

    Each class has a classifier of tiles. In training, the classifier of the bag's class separates the 8 most
    attended tiles from the 8 least attended ones. Those of the other classes reject the most attended tiles.
    The loss is the smooth SVM's (arXiv 1802.07595) at margin and temperature 1. For two classes, this is the
    cross-entropy with 1 added to the wrong one's score. Bag and tiles weigh .7 and .3.

    Differs from the paper: no dropout.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__(inputs, outputs, width)
        self.tile_heads = nn.ModuleList(nn.Linear(width, 2) for _ in range(outputs))

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag; a label adds the tiles' loss."""
        hidden = self.embed(tiles)
        attention = self.attend(hidden)
        auxiliary = tiles.new_zeros(()) if label is None else self._tile_loss(hidden, attention, label)
        return Pooled(self.head(attention @ hidden)[None], attention, auxiliary * TILE_SHARE / BAG_SHARE)

    def _tile_loss(self, hidden: Tensor, attention: Tensor, label: int) -> Tensor:
        count = min(SAMPLED, len(hidden))
        most, least = (attention.topk(count, largest=largest).indices for largest in (True, False))
        yes = torch.arange(2 * count, device=hidden.device) < count
        losses = [
            smooth_svm(head(hidden[torch.cat([most, least])]), yes.long())
            if number == label
            else smooth_svm(head(hidden[most]), torch.zeros_like(most))
            for number, head in enumerate(self.tile_heads)
        ]
        return torch.stack(losses).sum()


def smooth_svm(scores: Tensor, labels: Tensor) -> Tensor:
    """Smooth top-1 SVM loss of scores (n, k), at margin and temperature 1, mean over the rows."""
    return F.cross_entropy(scores + 1 - F.one_hot(labels, scores.shape[1]), labels)
