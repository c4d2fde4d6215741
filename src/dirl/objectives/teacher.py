"""Objectives with a teacher: a moving average of the student. The teacher sees only global views."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from dirl.encoders.base import EncoderOutput
from dirl.objectives.base import Objective, Terms, any_of
from dirl.objectives.rows import project_present
from dirl.prior.tokens import RegionTokens
from dirl.views.masking import Masking

Tokens = TypeVar("Tokens")


@dataclass(frozen=True)
class Teacher(Generic[Tokens]):
    """The teacher's outputs for the global views.

    Attributes
    ----------
    tokens
        Output of the averaged encoder, one for each global view.
    objective
        The averaged objective, of the student's class: its projectors are the teacher's.
    """

    tokens: Sequence[Tokens]
    objective: Any


class TeacherObjective(Objective):
    """An objective with a teacher: a student's view is matched with every teacher's view except its own.

    The student's views come in the order global, then local; the teacher sees the global views.

    Parameters
    ----------
    momentum
        Momentum of the moving average at the start; it rises to 1 on a cosine.
    projector, output_width, regions, predictor
        As in `dirl.objectives.base.Objective`.
    """

    def __init__(
        self,
        projector: Callable[[], nn.Module],
        output_width: int,
        regions: int,
        *,
        momentum: float,
        predictor: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__(projector, output_width, regions, predictor=predictor)
        self.momentum = momentum

    @abstractmethod
    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput]) -> Terms:
        """Match whole views: one `EncoderOutput` of the same ``b`` tiles per view."""

    def dense_terms(self, student: Sequence[RegionTokens], teacher: Teacher[RegionTokens]) -> Terms:
        """Match the regions that a student's and a teacher's view share, see `Objective.dense_loss`."""
        pairs = [(s, t) for t in range(len(teacher.tokens)) for s in range(len(student)) if s != t]
        both = torch.stack([student[s].present & teacher.tokens[t].present for s, t in pairs])
        # Rows without a partner in another view are left out: they must not touch batch statistics.
        used = torch.stack([any_of(both, [s == i for s, _ in pairs]) for i in range(len(student))])
        taught = torch.stack([any_of(both, [t == i for _, t in pairs]) for i in range(len(teacher.tokens))])
        projected = self.project_regions(student, used)
        with torch.no_grad():
            tokens = torch.stack([view.tokens for view in teacher.tokens])
            aims = project_present(teacher.objective.dense_projector, self.output_width, tokens, taught)
            targets = self.region_targets(aims.float(), taught)
        return self.dense_loss(projected, targets, pairs, both, used)


class MaskedObjective(TeacherObjective):
    """An objective whose student sees the global views with patch tokens masked.

    Parameters
    ----------
    masking
        Probability of masking and masked share.
    projector, output_width, regions, momentum, predictor
        As in `TeacherObjective`.
    """

    def __init__(
        self,
        projector: Callable[[], nn.Module],
        output_width: int,
        regions: int,
        *,
        momentum: float,
        masking: Masking,
        predictor: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__(projector, output_width, regions, momentum=momentum, predictor=predictor)
        self.masking = masking
