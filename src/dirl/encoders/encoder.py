"""What every encoder returns."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
    """

    cls: Tensor
    patches: Tensor
    registers: Tensor
    grid: tuple[int, int]
    regions: Tensor | None = None


class Encoder(Protocol):
    """Anything that turns normalised images into tokens."""

    width: int
    patch_px: int

    def __call__(self, images: Tensor, coverage: Tensor | None = None) -> EncoderOutput:
        """Encode float images ``(b, 3, h, w)`` in [0, 1].

        With `coverage` ``(b, r, gh, gw)`` the last block also computes one class-query row per region.
        """
        ...
