"""VICReg: views agree, every dimension varies, and dimensions are not correlated."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
from lightly.loss import VICRegLoss
from lightly.models.modules.heads import VICRegProjectionHead
from torch import Tensor

from dirl.config import Count, Positive, Settings
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import PairObjective, Terms
from dirl.objectives.distributed import full_precision
from dirl.objectives.rows import gather_padded

VARIANCE_EPSILON = 1e-4


class VICRegConfig(Settings):
    """Sizes of the expander (three layers) and the weights of the three terms."""

    hidden_width: Count = 2048
    output_width: Count = 2048
    invariance: Positive = 25.0
    variance: Positive = 25.0
    covariance: Positive = 1.0


class VICReg(PairObjective):
    """VICReg (Bardes, Ponce and LeCun, 2021, arXiv 2105.04906, equations 1 to 6).

    The dense term has the variance and the covariance of each region over the tiles that have it. So no
    region can collapse to a single point.

    Differs from the paper: equation 6 sums the variance term over the two views, lightly takes their mean.

    Parameters
    ----------
    width
        Width of the encoder's tokens.
    config
        Its settings.
    regions
        How many regions the dense term matches; 0 when vanilla.
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
        views = self.projector(torch.cat([output.cls for output in student])).float().chunk(len(student))
        with full_precision():
            return {"global": torch.stack([self.loss(a, b) for a, b in combinations(views, 2)]).mean()}

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


@full_precision()
def variance_covariance(rows: Tensor, present: Tensor) -> Tensor:
    """Return the variance and the covariance term of one view, over the present rows of all ranks.

    Parameters
    ----------
    rows
        ``(b, r, p)``; anything where absent.
    present
        Bool ``(b, r)``.

    Returns
    -------
    Tensor
        Two numbers, averaged over the regions with at least two rows; zeros, with a graph, if there are none.
    """
    everyone, everywhere, _ = gather_padded(rows, present)
    counts = everywhere.sum(dim=0)
    counted = counts > 1
    mask = everywhere[..., None]
    mean = torch.where(mask, everyone, 0).sum(dim=0) / counts.clamp(min=1)[:, None]
    centred = torch.where(mask, everyone - mean, 0)
    covariance = torch.einsum("brp,brq->rpq", centred, centred) / (counts - 1).clamp(min=1)[:, None, None]
    variances = covariance.diagonal(dim1=1, dim2=2)
    spread = torch.relu(1 - torch.sqrt(variances + VARIANCE_EPSILON)).mean(dim=-1)
    width = rows.shape[-1]
    repeated = (covariance.square().sum(dim=(1, 2)) - variances.square().sum(dim=-1)) / width
    terms = torch.stack([spread, repeated])
    total: Tensor = torch.where(counted, terms, 0).sum(dim=1) / counted.sum().clamp(min=1)
    return total
