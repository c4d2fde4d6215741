"""SimCLR: two views of a tile attract, all other tiles repel."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from lightly.loss import NTXentLoss
from lightly.models.modules.heads import SimCLRProjectionHead
from torch import Tensor, nn

from dirl.config import ObjectiveConfig
from dirl.encoders.encoder import EncoderOutput
from dirl.objectives.dense import gather_padded, mean_over_present, project_present
from dirl.objectives.objective import Teacher, Terms
from dirl.objectives.regions import RegionTokens


class SimCLR(nn.Module):
    """SimCLR with the NT-Xent loss of Chen et al. (2020, arXiv 2002.05709, equation 1).

    The dense term applies the same loss region by region: the positive is the same region of the same
    tile in the other view, the negatives are that region of the other tiles.

    Parameters
    ----------
    width
        Width of the encoder's tokens.
    config
        Sizes of the heads and the temperature.
    dense
        Make a head for region tokens too.
    """

    momentum = None

    def __init__(self, width: int, config: ObjectiveConfig, dense: bool) -> None:
        super().__init__()
        self.temperature = config.temperature
        self.output_width = config.output_width
        self.head = SimCLRProjectionHead(width, config.hidden_width, config.output_width)
        self.dense_head = (
            SimCLRProjectionHead(width, config.hidden_width, config.output_width) if dense else None
        )
        self.loss = NTXentLoss(config.temperature, gather_distributed=torch.distributed.is_available())

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput] | None) -> Terms:
        """Contrast the class tokens of two views."""
        first, second = self.head(torch.cat([output.cls for output in student])).chunk(2)
        return {"global": self.loss(first, second)}

    def dense_terms(self, student: Sequence[RegionTokens], teacher: Teacher[RegionTokens] | None) -> Terms:
        """Contrast the region tokens of two views, region by region."""
        assert self.dense_head is not None
        tokens = torch.stack([regions.tokens for regions in student])
        present = torch.stack([regions.present for regions in student]).all(dim=0)
        projected = project_present(self.dense_head, self.output_width, tokens, present)
        return {"dense": masked_nt_xent(projected[0], projected[1], present, self.temperature)}


def masked_nt_xent(first: Tensor, second: Tensor, present: Tensor, temperature: float) -> Tensor:
    """NT-Xent of each region over the tiles in which it is present, averaged over the regions.

    With every region present it is the mean over regions of lightly's ``NTXentLoss``.

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
        Scalar; zero when no region is present.
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
    return mean_over_present(losses.mean(dim=1).T, present, everywhere)
