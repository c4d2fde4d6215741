"""What every encoder returns."""

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-6
"""Coverage at or below it is none."""


@dataclass(frozen=True)
class EncoderOutput:
    """Last normalised tokens of ``b`` images.

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
        One region token for each region, ``(b, r, d)``, where they were asked for.
    masked
        Bool ``(b, n)``: the patch tokens that a mask token stood for, where any did.
    kept
        Places in the token grid of the patch tokens that were not dropped, integers ``(b, n)``, rising; None
        where all were kept. `patches` are those kept.
    """

    cls: Tensor
    patches: Tensor
    registers: Tensor
    grid: tuple[int, int]
    regions: Tensor | None = None
    masked: Tensor | None = None
    kept: Tensor | None = None


def at_kept(values: Tensor, kept: Tensor | None) -> Tensor:
    """Take from values of every place of the token grid, ``(b, r, n)``, those of the tokens kept."""
    return values if kept is None else values.gather(2, kept[:, None].expand(-1, values.shape[1], -1))


def log_coverage(coverage: Tensor) -> Tensor:
    """Return what a region adds to the logits of its tokens: the log of the coverage.

    Where there is none it is a finite minimum: a region without tokens gets a uniform row and not NaN, and
    is masked as absent later.
    """
    lowest = torch.finfo(torch.float32).min
    return torch.where(coverage > EPSILON, coverage.float().clamp(min=EPSILON).log(), lowest)
