"""SimCLR: two views of a tile attract, all other tiles repel."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor

from dirl.config import Count, Positive, Settings
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import PairObjective, Terms
from dirl.objectives.distributed import full_precision
from dirl.objectives.rows import gather_padded


class SimCLRConfig(Settings):
    """Sizes of the projector (two layers) and the temperature."""

    hidden_width: Count = 2048
    output_width: Count = 128
    temperature: Positive = 0.2


class SimCLR(PairObjective):
    """SimCLR with the NT-Xent loss of Chen et al. (2020, arXiv 2002.05709, equation 1).

    The dense term applies the same loss region by region. The positive is the same region of the same tile in
    the other view. The negatives are that region of the other tiles.

    Parameters
    ----------
    width
        Width of the encoder's tokens.
    config
        Its settings.
    regions
        How many regions the dense term matches; 0 when vanilla.
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
        views = self.projector(torch.cat([output.cls for output in student])).float().chunk(len(student))
        with full_precision():
            return {"global": torch.stack([self.loss(a, b) for a, b in combinations(views, 2)]).mean()}

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Contrast the regions of two views."""
        return nt_xent_rows(student, target, present, self.temperature)


@full_precision()
def nt_xent_rows(first: Tensor, second: Tensor, present: Tensor, temperature: float) -> Tensor:
    """NT-Xent of each region over the tiles in which it is present, as one loss per row.

    With every region present its mean over rows is lightly's ``NTXentLoss`` of that region.

    Parameters
    ----------
    first, second
        Projections of the two views, ``(b, r, p)``; anything where absent.
    present
        Bool ``(b, r)``: present in both views.
    temperature
        Divides the cosine similarities.

    Returns
    -------
    Tensor
        Mean of both directions, ``(b, r)``; arbitrary finite values where absent.
    """
    views = F.normalize(torch.stack([first, second], dim=1).float(), dim=-1)
    everyone, everywhere, offset = gather_padded(views, present)
    b, total = len(views), len(everyone)
    logits = torch.einsum("ivrp,jwrp->rviwj", views, everyone) / temperature

    # Keys: every present row but oneself. A finite minimum keeps the gradients of absent rows finite.
    allowed = everywhere.T[:, None, None, None, :].expand(-1, 2, b, 2, total).clone()
    here = torch.arange(b, device=views.device)
    for view in (0, 1):
        allowed[:, view, here, view, offset + here] = False
    logits = logits.masked_fill(~allowed, torch.finfo(logits.dtype).min)
    positive = torch.stack([logits[:, v, here, 1 - v, offset + here] for v in (0, 1)], dim=1)
    losses = logits.flatten(3).logsumexp(dim=-1) - positive
    return (losses / 2).sum(dim=1).T
