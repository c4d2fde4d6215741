"""DINO: every view predicts the teacher's centred and sharpened distribution of a global view."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.loss import DINOLoss
from torch import Tensor

from dirl.config import Share
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import Teacher, Terms
from dirl.objectives.distillation import DistillationConfig, DistillationObjective, prototype_head
from dirl.objectives.distributed import all_sum, full_precision


class DINOConfig(DistillationConfig):
    """The settings of `DistillationConfig`, the momentum of the centre, and batch norm in the head.

    The paper's head for ViTs has no batch norm. Short runs need ``batch_norm``. Early in training all tokens
    are almost equal; batch norm separates them.
    """

    center_momentum: Share = 0.9
    batch_norm: bool = False


class DINO(DistillationObjective):
    """DINO (Caron et al., 2021, arXiv 2104.14294): self-distillation with centring and multi-crop.

    The dense loss has a centre for each region, over its present rows. With one centre over all regions, each
    region could collapse to a point of its own.
    """

    Config = DINOConfig
    multi_crop = True

    config: DINOConfig
    dense_center: Tensor

    def __init__(self, width: int, config: DINOConfig, regions: int) -> None:
        projector = partial(prototype_head, width, config, config.batch_norm)
        super().__init__(projector, config.prototypes, regions, momentum=config.momentum)
        self.config = config
        self.temperature = config.temperature_at(0)
        self.loss = DINOLoss(
            config.prototypes,
            student_temp=config.student_temperature,
            center_momentum=config.center_momentum,
        )
        if regions:
            self.register_buffer("dense_center", torch.zeros(regions, config.prototypes))

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Terms:
        """Predict the teacher's global views from all other views."""
        logits = self.projector(torch.cat([view.cls for view in student])).float().chunk(len(student))
        with torch.no_grad():
            aims = teacher.objective.projector(torch.cat([view.cls for view in teacher.tokens])).float()
        views = list(aims.chunk(len(teacher.tokens)))
        with full_precision():
            return {"global": self.loss(views, list(logits), teacher_temp=self.temperature)}

    def region_targets(self, projected: Tensor, present: Tensor) -> Tensor:
        """Centre and sharpen, then move the centre towards this batch's present rows."""
        targets = torch.softmax((projected - self.dense_center) / self.temperature, dim=-1)
        rows = torch.where(present[..., None], projected, 0).sum(dim=(0, 1))
        counts = all_sum(present.sum(dim=(0, 1)).float())[:, None]
        mean = all_sum(rows) / counts.clamp(min=1)
        moved = torch.lerp(mean, self.dense_center, self.config.center_momentum)
        self.dense_center = torch.where(counts > 0, moved, self.dense_center)
        return targets
