"""ABMIL: a bag is the sum of its tiles, weighted by gated attention."""

from torch import Tensor, nn

from dirl.evaluate.mil.slide_model import Pooled, SlideModel


class GatedAttention(nn.Module):
    """Attention of tiles: softmax over the bag of ``wᵀ(tanh(V h) ⊙ sigmoid(U h))``.

    Ilse, Tomczak and Welling 2018 (arXiv 1802.04712).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tanh, self.gate = nn.Linear(width, width), nn.Linear(width, width)
        self.weight = nn.Linear(width, 1)

    def forward(self, tiles: Tensor) -> Tensor:
        """Tiles of shape (n, width) to shares of shape (n,), which sum to 1."""
        scores: Tensor = self.weight(self.tanh(tiles).tanh() * self.gate(tiles).sigmoid())
        return scores[:, 0].softmax(dim=0)


class ABMIL(SlideModel):
    """Attention-based pooling (Ilse et al. 2018, arXiv 1802.04712), gated, of tiles reduced to the width."""

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__(inputs, outputs, width)
        self.embed = nn.Sequential(nn.Linear(inputs, width), nn.ReLU())
        self.attend = GatedAttention(width)
        self.head = nn.Linear(width, outputs)

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag."""
        hidden = self.embed(tiles)
        attention = self.attend(hidden)
        return Pooled(self.head(attention @ hidden)[None], attention, tiles.new_zeros(()))
