"""VICReg: views agree, every dimension varies, and dimensions are not correlated."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor

from dirl.config import Count, Positive, Settings
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import PairObjective, Terms
from dirl.objectives.losses import VARIANCE_EPSILON, variance_covariance


class VICRegConfig(Settings):
    """Sizes of the expander (three layers) and the weights of the three terms."""

    hidden_width: Count = 2048
    output_width: Count = 2048
    invariance: Positive = 25.0
    variance: Positive = 25.0
    covariance: Positive = 1.0


class VICReg(PairObjective):
    """VICReg (Bardes, Ponce and LeCun, 2021, arXiv 2105.04906, equations 1 to 6).

    The dense loss has the variance and the covariance of each region over the tiles that have it. So no
    region can collapse to a single point.

    Differs from the paper: equation 6 sums the variance term over the two views, lightly takes their mean.
    """

    Config = VICRegConfig

    def __init__(self, width: int, config: VICRegConfig, regions: int) -> None:
        projector = partial(VICRegProjectionHead, width, config.hidden_width, config.output_width)
        super().__init__(projector, config.output_width, regions)
        self.config = config
        self.loss = VICRegLoss(
            config.invariance,
            config.variance,
            config.covariance,
            gather_distributed=torch.distributed.is_available(),
            eps=VARIANCE_EPSILON,
        )

    def global_terms(self, student: Sequence[EncoderOutput]) -> Terms:
        """Compare the class tokens of every pair of views."""
        return {"global": self.mean_over_pairs(student, self.loss)}

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Return the invariance term of two views' regions."""
        return self.config.invariance * (student - target).square().mean(dim=-1)

    def region_penalty(self, projected: Tensor, present: Tensor) -> Tensor:
        """Return the variance and covariance terms, of each region in each view."""
        views = torch.stack([variance_covariance(z, p) for z, p in zip(projected, present, strict=True)])
        variance, covariance = views.mean(dim=0)
        # As lightly: the variance is averaged over a pair's two views, the covariance added.
        penalty: Tensor = self.config.variance * variance + self.config.covariance * 2 * covariance
        return penalty
