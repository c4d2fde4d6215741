"""What an objective is: how views of the same thing are matched, for whole views and for regions."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from dirl.config import Settings
from dirl.encoders.base import EncoderOutput
from dirl.objectives.distributed import synchronised
from dirl.prior.dense import mean_over_present, project_present
from dirl.prior.tokens import RegionTokens

Terms = dict[str, Tensor]
Tokens = TypeVar("Tokens")


@dataclass(frozen=True)
class Teacher(Generic[Tokens]):
    """What the moving averages say of the global views.

    Attributes
    ----------
    tokens
        Output of the averaged encoder, one for each global view.
    objective
        The averaged objective: its projectors are the teacher's.
    """

    tokens: Sequence[Tokens]
    objective: Any


class Objective(nn.Module, ABC):
    """One self-supervised objective, one file each: a projector, a predictor, and a loss.

    The global term matches class tokens, with lightly's loss; the dense term matches region tokens by the
    same family of loss, through a projector and a predictor of its own. How regions are compacted, paired
    and averaged is the same for all of them and written here, once: an objective says only what
    `region_losses` of a pair of views are, and, where it needs to, `region_targets` and `region_penalty`.

    The views come in the order global, then local. With a teacher a view is matched with every teacher's
    view but its own; without one, every pair of views once.

    Parameters
    ----------
    projector, predictor
        Make a head: called once for class tokens and, with regions, once more for region tokens. The
        predictor follows the projector on the student's side only.
    output_width
        Width of what comes out, p.
    regions
        How many regions the dense term matches; 0 when vanilla.
    momentum
        Where the momentum of the teacher starts on its cosine way to 1; None is no teacher.

    Attributes
    ----------
    Config
        Its settings: what a recipe's ``objective`` section holds beside the name.
    contrastive
        Whether it has negatives.
    multi_crop
        Whether it takes local views.
    masked
        Whether its student is shown global views with patch tokens masked.
    trains_patch_embedding
        False where the patch embedding stays as it was initialised.
    smallest_batch
        Fewest tiles at a time that it can compare.
    """

    Config: ClassVar[type[Settings]]
    contrastive: ClassVar[bool] = False
    multi_crop: ClassVar[bool] = False
    masked: ClassVar[bool] = False
    trains_patch_embedding: ClassVar[bool] = True
    smallest_batch: ClassVar[int] = 2

    def __init__(
        self,
        projector: Callable[[], nn.Module],
        output_width: int,
        regions: int,
        *,
        predictor: Callable[[], nn.Module] = nn.Identity,
        momentum: float | None = None,
    ) -> None:
        super().__init__()
        self.output_width, self.regions, self.momentum = output_width, regions, momentum
        self.projector, self.predictor = synchronised(projector()), synchronised(predictor())
        if regions:
            # So that what is made after this starts as in a vanilla run of the same seed.
            with torch.random.fork_rng(devices=[]):
                self.dense_projector = synchronised(projector())
                self.dense_predictor = synchronised(predictor())

    def begin_step(self, done: float) -> None:
        """Set what follows a schedule; `done` is the share of the run that lies behind, in [0, 1)."""

    def before_update(self, done: float) -> None:
        """Change gradients after the backward pass and before the optimiser's step."""

    @abstractmethod
    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput] | None) -> Terms:
        """Match whole views: one `EncoderOutput` of the same ``b`` tiles per view."""

    @abstractmethod
    def region_losses(self, student: Tensor, target: Tensor, present: Tensor) -> Tensor:
        """Compare the regions of two views, row by row.

        Parameters
        ----------
        student, target
            Projections ``(b, r, p)``; anything where absent.
        present
            Bool ``(b, r)``: present in both.

        Returns
        -------
        Tensor
            ``(b, r)``; anything finite where absent.
        """

    def region_targets(self, projected: Tensor, present: Tensor) -> Tensor:
        """Turn the projections ``(t, b, r, p)`` of the matched-with views into targets."""
        return projected

    def region_penalty(self, projected: Tensor, present: Tensor) -> Tensor | None:
        """Return what the loss adds for all student rows ``(v, b, r, p)`` together; None for nothing."""
        return None

    def dense_terms(self, student: Sequence[RegionTokens], teacher: Teacher[RegionTokens] | None) -> Terms:
        """Match the regions that two views have in common, and average over the regions that any have.

        Returns
        -------
        dict
            The term ``dense``. Zero, with a graph to every parameter, where no two views share a region.
        """
        here = torch.stack([view.present for view in student])
        there = here if teacher is None else torch.stack([view.present for view in teacher.tokens])
        if teacher is None:
            pairs = [(s, t) for s in range(len(here)) for t in range(s + 1, len(here))]
        else:
            pairs = [(s, t) for t in range(len(there)) for s in range(len(here)) if s != t]
        both = torch.stack([here[s] & there[t] for s, t in pairs])
        # A row that no other view has a partner for must not touch a head's batch statistics.
        used = torch.stack([_any(both, [s == i for s, _ in pairs]) for i in range(len(here))])
        taught = torch.stack([_any(both, [t == i for _, t in pairs]) for i in range(len(there))])
        if teacher is None:
            used = taught = used | taught
        head = nn.Sequential(self.dense_projector, self.dense_predictor)
        tokens = torch.stack([view.tokens for view in student])
        projected = project_present(head, self.output_width, tokens, used).float()
        if teacher is None:
            targets = self.region_targets(projected, taught)
        else:
            with torch.no_grad():
                shown = torch.stack([view.tokens for view in teacher.tokens])
                other = teacher.objective.dense_projector
                aims = project_present(other, self.output_width, shown, taught)
                targets = self.region_targets(aims.float(), taught)
        values = torch.stack(
            [self.region_losses(projected[s], targets[t], both[i]) for i, (s, t) in enumerate(pairs)]
        )
        loss = mean_over_present(values.flatten(0, 1), both.flatten(0, 1))
        penalty = self.region_penalty(projected, used)
        return {"dense": loss if penalty is None else loss + penalty}


def _any(both: Tensor, chosen: list[bool]) -> Tensor:
    """Whether any of the chosen pairs has the row, ``(b, r)``."""
    return both[torch.tensor(chosen, device=both.device)].any(dim=0)
