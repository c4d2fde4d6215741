"""Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230): the features of two views correlate one to one."""

from functools import partial

import torch
from lightly.loss import BarlowTwinsLoss
from lightly.models.modules.heads import BarlowTwinsProjectionHead
from torch.nn.functional import cosine_similarity

from dirl import PairObjective
from dirl.config import Settings


class BarlowConfig(Settings):
    """The recipe's section ``objective``, without the name."""

    hidden_width: int = 2048
    output_width: int = 2048
    redundancy: float = 0.005  # weight of the correlations between different features


class Barlow(PairObjective):
    """Class tokens by the loss of the paper, regions by their cosine, as a batch may have few of them."""

    Config = BarlowConfig

    def __init__(self, width, config, regions):
        projector = partial(BarlowTwinsProjectionHead, width, config.hidden_width, config.output_width)
        super().__init__(projector, config.output_width, regions)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        self.loss = BarlowTwinsLoss(config.redundancy, gather_distributed=distributed)

    def global_terms(self, student):
        """One output for each view."""
        return {"global": self.mean_over_pairs(student, self.loss)}

    def region_losses(self, student, target, present):
        """Projections (b, r, p) of two views; returns (b, r)."""
        return 1 - cosine_similarity(student, target, dim=-1)
