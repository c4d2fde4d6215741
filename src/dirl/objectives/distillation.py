"""Shared by DINO and DINOv2: a teacher's distribution over prototypes, and the student's cross-entropy."""

import warnings

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import DINOProjectionHead
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from dirl.config import Count, Positive, Settings, Share
from dirl.objectives.distributed import all_sum


class DistillationConfig(Settings):
    """Sizes of the head, temperatures and the teacher's momentum.

    The teacher's temperature rises linearly from ``teacher_temperature_start`` over the first
    ``temperature_warmup_share`` of the run. The last layer is frozen for the first
    ``freeze_last_layer_share`` of it.
    """

    hidden_width: Count = 2048
    bottleneck_width: Count = 256
    prototypes: Count = 65536
    student_temperature: Positive = 0.1
    teacher_temperature_start: Positive = 0.04
    teacher_temperature: Positive = 0.07
    temperature_warmup_share: Share = 0.3
    freeze_last_layer_share: Share = 0.01
    momentum: Share = 0.992

    def temperature_at(self, done: float) -> float:
        """Return the teacher's temperature when the share `done` of the run is done."""
        risen = min(1.0, done / self.temperature_warmup_share) if self.temperature_warmup_share else 1.0
        start = self.teacher_temperature_start
        return start + risen * (self.teacher_temperature - start)


def prototype_head(width: int, config: DistillationConfig, batch_norm: bool = False) -> nn.Module:
    """Make lightly's DINO head, with a weight norm that can be copied to a teacher."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*weight_norm.*")
        head = DINOProjectionHead(
            width,
            config.hidden_width,
            config.bottleneck_width,
            config.prototypes,
            batch_norm=batch_norm,
            norm_last_layer=True,
        )
        nn.utils.remove_weight_norm(head.last_layer)
    # lightly's older weight norm keeps a tensor that cannot be deep-copied.
    parametrizations.weight_norm(head.last_layer)
    magnitude = head.last_layer.parametrizations.weight.original0
    nn.init.ones_(magnitude).requires_grad_(False)
    made: nn.Module = head
    return made


def cross_entropy_rows(targets: Tensor, logits: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the student's softmax against the teacher's distribution.

    Parameters
    ----------
    targets
        Distributions over prototypes, ``(..., p)``.
    logits
        The student's, ``(..., p)``.
    temperature
        The student's.

    Returns
    -------
    Tensor
        ``(...)``.
    """
    return -(targets * F.log_softmax(logits.float() / temperature, dim=-1)).sum(dim=-1)


@torch.no_grad()
def sinkhorn(logits: Tensor, present: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Distribute rows evenly over prototypes, by Sinkhorn and Knopp's iterations over all ranks.

    As in SwAV (Caron et al., 2020, arXiv 2006.09882) and DINOv2, where it replaces the centring. Absent rows
    take no part. If all are present it equals lightly's ``sinkhorn``.

    Parameters
    ----------
    logits
        The teacher's, ``(m, r, p)``; each ``r`` is distributed by itself.
    present
        Bool ``(m, r)``.
    temperature
        Divides the logits.
    iterations
        Rounds of normalisation.

    Returns
    -------
    Tensor
        Distributions ``(m, r, p)``; zero where absent.
    """
    scaled = logits.float() / temperature
    # The shift keeps the exponential finite. It is the same on every rank: the first division removes it.
    scaled = scaled.masked_fill(~present[..., None], -torch.inf)
    plan = torch.exp(scaled - _largest(scaled.amax().clamp(min=torch.finfo(scaled.dtype).min)))
    count = all_sum(present.sum(dim=0).float()).clamp(min=1)[None, :, None]
    plan = plan / all_sum(plan.sum(dim=(0, 2))).clamp(min=1e-30)[None, :, None]
    for _ in range(iterations):
        plan = plan / all_sum(plan.sum(dim=0, keepdim=True)).clamp(min=1e-30)
        plan = plan / plan.sum(dim=-1, keepdim=True).clamp(min=1e-30) / count
    return plan * count


def _largest(value: Tensor) -> Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value, op=torch.distributed.ReduceOp.MAX)
    return value
