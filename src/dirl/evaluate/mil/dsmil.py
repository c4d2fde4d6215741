"""DSMIL: one stream finds the critical tile of each class, the other pools tiles by similarity to it."""

import torch
from torch import Tensor, nn

from dirl.evaluate.mil.slide_model import Pooled, SlideModel


class DSMIL(SlideModel):
    """Dual-stream pooling (Li, Li and Eliceiri 2021, arXiv 2011.08939).

    The first stream scores tiles, and a bag by its highest tile of each class. The second pools the tiles by
    the softmax of ``q_i · q_m / √width`` with the query q_m of that tile, and scores all classes' bags
    together. The attention is that of the predicted class. If a positive bag is predicted as negative, it is
    the similarity to the critical tile of the negative class.

    Differs from the paper: classes exclude each other (softmax, not a sigmoid each), no multi-scale features
    and no dropout. The width is that of queries and values.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 128) -> None:
        super().__init__(inputs, outputs, width)
        self.tile_head = nn.Linear(inputs, outputs)
        self.query = nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.Tanh())
        self.value = nn.Linear(inputs, width)
        self.head = nn.Linear(outputs * width, outputs)

    def forward(self, tiles: Tensor, label: int | None = None) -> Pooled:
        """Score one bag."""
        scores = self.tile_head(tiles)
        highest, critical = scores.max(dim=0)
        queries = self.query(tiles)
        attention = (queries @ queries[critical].T / queries.shape[1] ** 0.5).softmax(dim=0)
        bags = attention.T @ self.value(tiles)
        streams = torch.stack([self.head(bags.flatten()), highest])
        predicted = streams.mean(dim=0).argmax()
        return Pooled(streams, attention[:, predicted], tiles.new_zeros(()))
