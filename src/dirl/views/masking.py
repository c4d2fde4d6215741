"""Which patch tokens are masked for the student of masked image modelling."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from dirl.core.errors import ConfigError
from dirl.core.randomness import hashes, uniforms

BLOCKS = 24
SMALLEST_BLOCK = 4
NARROWEST = 0.3


@dataclass(frozen=True)
class Masking:
    """How views are masked.

    Attributes
    ----------
    p
        Probability that a view is masked.
    share
        Range of the share of its patch tokens that is masked then.
    """

    p: float
    share: tuple[float, float]

    def draw(self, seed: int, samples: NDArray[np.int64], views: int, grid: tuple[int, int]) -> Tensor:
        """Draw the masks ``(views, b, gh, gw)`` of samples ``(b,)``, see `block_masks`."""
        counters = [samples * views + view for view in range(views)]
        return torch.stack([block_masks(seed, each, grid, self.share, self.p) for each in counters])


def block_masks(
    seed: int, counters: ArrayLike, grid: tuple[int, int], share: tuple[float, float], p: float
) -> Tensor:
    """Mask rectangles of tokens, bool ``(b, gh, gw)`` on the CPU, a function of (seed, counter) alone.

    The scheme of iBOT and DINOv2 (``dinov2/data/masking.py``). Rectangles are added as long as they do not
    mask too many tokens. They have at least 4 tokens, and an aspect between 0.3 and 1 / 0.3.

    Differs from DINOv2: each image is masked with probability `p` by itself, not a fixed number in a batch. A
    fixed number of rectangles is tried for all images at once. Single tokens fill up the rest, so that
    exactly the drawn number of tokens is masked. That number is uniform in the range `share`; if no whole
    number lies in it, it is a `ConfigError`.
    """
    rows, columns = grid
    least, most = int(np.ceil(share[0] * rows * columns)), int(np.floor(share[1] * rows * columns))
    if least > most:
        raise ConfigError(
            f"no whole number of the {rows * columns} tokens is a share between {share[0]} and {share[1]}",
            remedy="widen objective.mask_share",
        )
    key = int(hashes(seed, ["masks"])[0])
    draws = uniforms(key, counters, 2 + 4 * BLOCKS + rows * columns)
    wanted = least + np.floor(draws[:, 1] * (most + 1 - least)).astype(np.int64)
    wanted[draws[:, 0] >= p] = 0
    masks = np.zeros((len(draws), rows, columns), dtype=bool)
    for block in range(BLOCKS):
        left = wanted - masks.sum(axis=(1, 2))
        new = masks | _rectangles(draws[:, 2 + 4 * block : 6 + 4 * block], left, grid)
        fits = new.sum(axis=(1, 2)) <= wanted
        masks[fits] = new[fits]
    # Fill up with single tokens, in a random order for each image.
    flat = masks.reshape(len(masks), -1)
    rank = np.argsort(np.argsort(draws[:, 2 + 4 * BLOCKS :] + flat, axis=1), axis=1)
    flat |= rank < (wanted - flat.sum(axis=1))[:, None]
    return torch.from_numpy(masks)


def _rectangles(
    draws: NDArray[np.float64], most: NDArray[np.int64], grid: tuple[int, int]
) -> NDArray[np.bool_]:
    """Draw one rectangle per image, of an area up to `most` tokens, as a mask ``(b, gh, gw)``."""
    area = SMALLEST_BLOCK + draws[:, 0] * np.maximum(most - SMALLEST_BLOCK, 0)
    aspect = NARROWEST ** (1 - 2 * draws[:, 1])
    sides = np.sqrt(np.stack([area * aspect, area / aspect], axis=1)).round().clip(1, grid)
    first = np.floor(draws[:, 2:] * (np.array(grid) - sides + 1))
    covered = [
        (np.arange(side) >= first[:, [axis]]) & (np.arange(side) < (first + sides)[:, [axis]])
        for axis, side in enumerate(grid)
    ]
    return np.asarray(covered[0][:, :, None] & covered[1][:, None, :])
