"""MoCo v3: InfoNCE against the teacher."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.models.modules.heads import MoCoProjectionHead
from torch import Tensor

from dirl.config import Count, Positive, Settings, Share
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import Teacher, TeacherObjective, Terms
from dirl.objectives.distributed import mean_over_present
from dirl.objectives.losses import info_nce


class MoCoConfig(Settings):
    """Sizes of the projector (three layers) and the predictor (two), the temperature, the momentum."""

    hidden_width: Count = 4096
    output_width: Count = 256
    temperature: Positive = 0.2
    momentum: Share = 0.99


class MoCo(TeacherObjective):
    """MoCo v3 (Chen, Xie and He, 2021, arXiv 2104.02057): InfoNCE against a momentum encoder.

    The patch embedding stays frozen at its random initialisation: the paper found that vision transformers
    then train stably. Differs from the paper: the two directions are averaged, not added. AdamW's steps do
    not depend on this factor.
    """

    Config = MoCoConfig
    contrastive = True
    trains_patch_embedding = False

    def __init__(self, width: int, config: MoCoConfig, regions: int) -> None:
        hidden, out = config.hidden_width, config.output_width
        super().__init__(
            partial(MoCoProjectionHead, width, hidden, out, num_layers=3, batch_norm=True),
            out,
            regions,
            predictor=partial(MoCoProjectionHead, out, hidden, out, num_layers=2, batch_norm=True),
            momentum=config.momentum,
        )
        self.temperature = config.temperature

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Terms:
        """Contrast each class token of the student with the teacher's of the other views."""
        v, b = len(student), len(student[0].cls)
        queries = self.predictor(self.projector(torch.cat([view.cls for view in student])))
        with torch.no_grad():
            keys = teacher.objective.projector(torch.cat([view.cls for view in teacher.tokens]))
        queries, keys = queries.view(v, b, 1, -1), keys.view(v, b, 1, -1)
        everything = torch.ones(b, 1, dtype=torch.bool, device=queries.device)
        rows = [
            self.region_losses(queries[s], keys[t], everything) for t in range(v) for s in range(v) if s != t
        ]
        return {"global": mean_over_present(torch.cat(rows), everything.repeat(len(rows), 1))}

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Contrast the student's regions with the teacher's."""
        return info_nce(student, target, present, self.temperature)
