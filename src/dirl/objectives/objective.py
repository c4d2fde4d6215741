"""What an objective is: how views of the same thing are matched, for whole views and for regions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from dirl.encoders.encoder import EncoderOutput
from dirl.objectives.regions import RegionTokens

Terms = dict[str, Tensor]
Tokens = TypeVar("Tokens")


@dataclass(frozen=True)
class Teacher(Generic[Tokens]):
    """What the moving averages say of the same views.

    Attributes
    ----------
    tokens
        Output of the averaged encoder, one for each view.
    objective
        The averaged objective: its heads are the teacher's heads.
    """

    tokens: Sequence[Tokens]
    objective: Any


class Objective(Protocol):
    """One self-supervised objective, as a ``torch.nn.Module``: one file each.

    It is made as ``Objective(width, config, dense)``: the encoder's width, an `ObjectiveConfig`, and
    whether region tokens will be matched too (only then does it make a head for them). Both methods
    return named terms, and the loss is their sum, the dense ones weighted by λ.

    Attributes
    ----------
    momentum
        None, or where the momentum of the teacher starts on its cosine way to 1. Only with a number is
        there a teacher.
    """

    momentum: ClassVar[float | None]

    def global_terms(self, student: Sequence[EncoderOutput], teacher: Teacher[EncoderOutput] | None) -> Terms:
        """Match whole views: one `EncoderOutput` per view, of the same ``b`` tiles."""
        ...

    def dense_terms(self, student: Sequence[RegionTokens], teacher: Teacher[RegionTokens] | None) -> Terms:
        """Match the regions present in both views, in the same family of objective, by a head of its own."""
        ...
