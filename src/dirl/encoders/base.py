"""The output of every encoder."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

EPSILON = 1e-6
"""Coverage up to this value counts as none."""


@dataclass(frozen=True)
class EncoderOutput:
    """Tokens of ``b`` images after the last norm.

    Attributes
    ----------
    cls
        Class token, ``(b, d)``.
    patches
        Patch tokens in row-major order, ``(b, n, d)``.
    registers
        Register tokens, ``(b, k, d)``; k may be 0.
    grid
        Rows and columns of the token grid, ``n = gh * gw``.
    regions
        One region token for each region, ``(b, r, d)``, if they were requested.
    masked
        Patch tokens that were replaced by a mask token, bool ``(b, n)``, if any.
    attention
        Attention of the class token in the last block over the patch tokens alone, ``(b, h, n)``, if it was
        requested. The rows of the ``h`` heads sum to 1.
    kept
        Places in the token grid of the patch tokens that were not dropped, integers ``(b, n)``, ascending.
        None if all were kept. `patches` holds only these tokens.
    """

    cls: Tensor
    patches: Tensor
    registers: Tensor
    grid: tuple[int, int]
    regions: Tensor | None = None
    attention: Tensor | None = None
    masked: Tensor | None = None
    kept: Tensor | None = None

    def chunk(self, views: int) -> list["EncoderOutput"]:
        """Take the outputs of equally many images apart, for views that were encoded in one pass."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        parts = zip(*(value.chunk(views) for value in tensors.values()), strict=True)
        return [replace(self, **dict(zip(tensors, part, strict=True))) for part in parts]


def at_kept(values: Tensor, kept: Tensor | None) -> Tensor:
    """Take the values of the kept tokens from values of the whole token grid, ``(b, r, n)``."""
    return values if kept is None else values.gather(2, kept[:, None].expand(-1, values.shape[1], -1))


def log_coverage(coverage: Tensor) -> Tensor:
    """Return the log of the coverage, which a region adds to the logits of its tokens.

    Without coverage it is a finite minimum. So a region without tokens gets a uniform row instead of NaN. It
    is masked as absent later.
    """
    lowest = torch.finfo(torch.float32).min
    return torch.where(coverage > EPSILON, coverage.float().clamp(min=EPSILON).log(), lowest)
