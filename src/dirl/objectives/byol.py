"""BYOL: a student's view predicts the slow-moving teacher's output for the other view."""

from collections.abc import Sequence
from functools import partial

import torch
from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from torch import Tensor
from torch.nn.functional import cosine_similarity

from dirl.config import Count, Settings, Share
from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import Teacher, TeacherObjective, Terms


class BYOLConfig(Settings):
    """Sizes of the projector and the predictor (two layers each), and the teacher's momentum."""

    hidden_width: Count = 4096
    output_width: Count = 256
    momentum: Share = 0.996


class BYOL(TeacherObjective):
    """BYOL (Grill et al., 2020, arXiv 2006.07733): no negatives, a predictor and a moving average.

    The loss is lightly's negative cosine, which differs from the paper's squared distance of unit vectors
    by a factor and a constant.
    """

    Config = BYOLConfig

    def __init__(self, width: int, config: BYOLConfig, regions: int) -> None:
        hidden, out = config.hidden_width, config.output_width
        super().__init__(
            partial(BYOLProjectionHead, width, hidden, out),
            out,
            regions,
            predictor=partial(BYOLPredictionHead, out, hidden, out),
            momentum=config.momentum,
        )
        self.loss = NegativeCosineSimilarity()

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Terms:
        """Predict the teacher's class tokens of the other views."""
        v = len(student)
        predicted = self.predictor(self.projector(torch.cat([view.cls for view in student])))
        with torch.no_grad():
            aims = teacher.objective.projector(torch.cat([view.cls for view in teacher.tokens]))
        predicted, aims = predicted.float().chunk(v), aims.float().chunk(v)
        rows = [self.loss(predicted[s], aims[t]) for t in range(v) for s in range(v) if s != t]
        return {"global": torch.stack(rows).mean()}

    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Return the negative cosine of the student's regions with the teacher's."""
        return -cosine_similarity(student, target, dim=-1)
