"""SimCLR: two views of a tile attract, all other tiles repel."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from dirl.config import Count, Positive, Settings
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import PairObjective, Terms
from dirl.objectives.losses import nt_xent


class SimCLRConfig(Settings):
    """Sizes of the projector (two layers) and the temperature."""

    hidden_width: Count = 2048
    output_width: Count = 128
    temperature: Positive = 0.2


class SimCLR(PairObjective):
    """SimCLR with the NT-Xent loss of Chen et al. (2020, arXiv 2002.05709, equation 1).

    The dense loss applies the same loss region by region. The positive is the same region of the same tile in
    the other view. The negatives are that region of the other tiles. With ``negatives: regions`` all regions
    are rows of one, and the other regions of all tiles are negatives, too.
    """

    Config = SimCLRConfig
    contrastive = True

    def __init__(self, width: int, config: SimCLRConfig, regions: int) -> None:
        projector = partial(SimCLRProjectionHead, width, config.hidden_width, config.output_width)
        super().__init__(projector, config.output_width, regions)
        self.temperature = config.temperature
        self.loss = NTXentLoss(config.temperature, gather_distributed=torch.distributed.is_available())

    def global_terms(self, student: Sequence[EncoderOutput]) -> Terms:
        """Contrast the class tokens of every pair of views."""
        return {"global": self.mean_over_pairs(student, self.loss)}

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Contrast the regions of two views."""
        return nt_xent(student, target, present, self.temperature)
