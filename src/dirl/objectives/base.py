"""The bases of all objectives: heads, the dense loss, a teacher; and how an objective is found by name."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from dirl.config import ObjectiveConfig, Settings, make
from dirl.core.errors import ConfigError
from dirl.core.plugins import resolve
from dirl.encoders.base import EncoderOutput
from dirl.objectives.distributed import full_precision, mean_over_present, project_present, synchronised
from dirl.prior.tokens import RegionTokens
from dirl.views.masking import Masking

Terms = dict[str, Tensor]
"""Named parts of a loss, which are added and logged."""

Pairs = Sequence[tuple[int, int]]
"""Pairs of views: the student's, and the one that it is matched with."""

Tokens = TypeVar("Tokens")


class Objective(nn.Module, ABC):
    """One self-supervised objective: a projector, a predictor, and a loss. Each has a file of its own.

    The global loss matches class tokens, with lightly's loss. The dense loss matches region tokens by the
    same family of loss, with a projector and a predictor of its own. All objectives leave out absent regions,
    pair views and average over regions in the same way, so this is written here, once. An objective defines
    `region_losses` of two views and, if it needs to, `region_targets` and `region_penalty`.

    Derive an objective from `PairObjective`, `TeacherObjective` or `MaskedObjective`. A run makes it with
    three positional arguments, ``(width, config, regions)``: the width of the encoder's tokens, a `Config`,
    and `regions` as below. The subclass calls ``super().__init__`` with functions that make its heads.

    Parameters
    ----------
    projector, predictor
        Make a head: called once for class tokens and, with regions, once more for region tokens. The
        predictor follows the projector on the student's side only.
    output_width
        Width of the projections, p.
    regions
        How many regions the dense loss matches; 0 for a vanilla run.

    Attributes
    ----------
    Config
        Its settings: a recipe's ``objective`` section without the name.
    contrastive
        Whether it has negatives.
    multi_crop
        Whether it takes local views.
    trains_patch_embedding
        False if the patch embedding keeps its initial values.
    smallest_batch
        Fewest tiles at a time that it can compare.
    """

    Config: ClassVar[type[Settings]]
    contrastive: ClassVar[bool] = False
    multi_crop: ClassVar[bool] = False
    trains_patch_embedding: ClassVar[bool] = True
    smallest_batch: ClassVar[int] = 2

    def __init__(
        self,
        projector: Callable[[], nn.Module],
        output_width: int,
        regions: int,
        *,
        predictor: Callable[[], nn.Module] = nn.Identity,
    ) -> None:
        super().__init__()
        self.output_width = output_width
        self.projector, self.predictor = synchronised(projector()), synchronised(predictor())
        if regions:
            # The generator is restored, so that the rest starts as in a vanilla run of the same seed.
            with torch.random.fork_rng(devices=[]):
                self.dense_projector = synchronised(projector())
                self.dense_predictor = synchronised(predictor())

    def begin_step(self, done: float) -> None:
        """Set what follows a schedule; `done` is the share of the run that is done, in [0, 1)."""

    def before_update(self, done: float) -> None:
        """Hook: may change gradients before the optimiser's step. Does nothing by default."""

    @abstractmethod
    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Compare the regions of two views, row by row.

        Parameters
        ----------
        student, target
            Projections ``(b, r, p)``; any values where absent.
        present
            Bool ``(b, r)``: present in both.

        Returns
        -------
        Tensor
            ``(b, r)``; arbitrary finite values where absent.
        """

    def region_targets(self, projected: Tensor, present: Tensor) -> Tensor:
        """Turn projections ``(t, b, r, p)`` into the targets that student rows are compared with."""
        return projected

    def region_penalty(self, projected: Tensor, present: Tensor) -> Tensor | None:
        """Return what the loss adds for all student rows ``(v, b, r, p)`` together; None for nothing."""
        return None

    def project_regions(self, student: Sequence[RegionTokens], used: Tensor) -> Tensor:
        """Project the student's region tokens ``(v, b, r, p)``, where `used` ``(v, b, r)`` is true."""
        head = nn.Sequential(self.dense_projector, self.dense_predictor)
        tokens = torch.stack([view.tokens for view in student])
        return project_present(head, self.output_width, tokens, used).float()

    def dense_loss(
        self, projected: Tensor, targets: Tensor, pairs: Pairs, both: Tensor, used: Tensor
    ) -> Terms:
        """Average the losses of pairs of views over the regions that both views have.

        Parameters
        ----------
        projected, targets
            ``(v, b, r, p)`` and ``(t, b, r, p)``.
        pairs
            Indices in these.
        both
            Bool ``(pairs, b, r)``: present in both views of a pair.
        used
            Bool ``(v, b, r)``: the student rows that have a partner in another view.

        Returns
        -------
        dict
            The term ``dense``. It is zero if no two views share a region. The zero still depends on every
            parameter, so that every parameter gets a gradient.
        """
        values = torch.stack(
            [self.region_losses(projected[s], targets[t], both[i]) for i, (s, t) in enumerate(pairs)]
        )
        loss = mean_over_present(values.flatten(0, 1), both.flatten(0, 1))
        penalty = self.region_penalty(projected, used)
        return {"dense": loss if penalty is None else loss + penalty}


class PairObjective(Objective):
    """An objective without a teacher: every pair of the student's views is matched once."""

    @abstractmethod
    def global_terms(self, student: Sequence[EncoderOutput]) -> Terms:
        """Match whole views: one `EncoderOutput` of the same ``b`` tiles per view."""

    def mean_over_pairs(
        self, student: Sequence[EncoderOutput], loss: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Average a loss of two views' projected class tokens, each ``(b, p)``, over all pairs of views."""
        views = self.projector(torch.cat([output.cls for output in student])).float().chunk(len(student))
        with full_precision():
            return torch.stack([loss(a, b) for a, b in combinations(views, 2)]).mean()

    def dense_terms(self, student: Sequence[RegionTokens]) -> Terms:
        """Match the regions that two views share, see `Objective.dense_loss`."""
        pairs = list(combinations(range(len(student)), 2))
        both = torch.stack([student[s].present & student[t].present for s, t in pairs])
        # Rows without a partner in another view are left out: they must not touch batch statistics.
        used = torch.stack([any_of(both, [i in pair for pair in pairs]) for i in range(len(student))])
        projected = self.project_regions(student, used)
        return self.dense_loss(projected, self.region_targets(projected, used), pairs, both, used)


def any_of(both: Tensor, chosen: list[bool]) -> Tensor:
    """Tell whether any of the chosen pairs has the row, ``(b, r)``."""
    return both[torch.tensor(chosen, device=both.device)].any(dim=0)


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
    objective: "TeacherObjective"


class TeacherObjective(Objective):
    """An objective with a teacher: a student's view is matched with every teacher's view except its own.

    The student's views come in the order global, then local; the teacher sees the global views.

    Parameters
    ----------
    momentum
        Momentum of the moving average at the start; it rises to 1 on a cosine.
    projector, output_width, regions, predictor
        As in `Objective`.
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


AnyObjective = PairObjective | TeacherObjective


class ObjectiveFactory(Protocol):
    """How a run makes an objective; a subclass of `Objective` is one."""

    def __call__(self, width: int, config: Settings, regions: int, /) -> AnyObjective:
        """Make an objective for tokens of a width, its `Config`, and a number of regions."""


def load_objective(config: ObjectiveConfig) -> tuple[type[AnyObjective], Settings]:
    """Find an objective by its name, and check its settings.

    Raises
    ------
    ConfigError
        If there is no objective of this name, or it has no such setting.
    """
    kind = resolve("dirl.objectives", config.name)
    if not (isinstance(kind, type) and issubclass(kind, PairObjective | TeacherObjective)):
        remedy = "derive it from dirl.PairObjective or dirl.TeacherObjective"
        raise ConfigError("not an objective", where=f"objective {config.name!r}", remedy=remedy)
    return kind, make(kind.Config, config.options, where=f"objective {config.name}")
