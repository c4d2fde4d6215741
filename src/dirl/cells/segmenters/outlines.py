"""Refined outlines of nuclei, each by its own contrast and shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.cells.segmenters.morphology import Labels, Map, Mask, grown, largest_parts, odd, opening, smaller
from dirl.cells.segmenters.shapes import ellipses

# Least contrast of a nucleus in a division.
FLAT = 0.05


@dataclass(frozen=True)
class Outlining:
    """Settings of the refinement.

    Attributes
    ----------
    reach_um
        Distance that an outline may move out, and width of the ring that a nucleus is compared with.
    half
        Level of the border, from 0 for that of the ring to 1 for that of the nucleus.
    roundness
        Weight of the position in the nucleus's ellipse: 0 at the ellipse's border, and this share of the
        contrast in its centre.
    thread_um
        Width of threads that are removed at the end.
    """

    reach_um: float = 1.0
    half: float = 0.55
    roundness: float = 0.6
    thread_um: float = 1.5


def outline(
    labels: Labels, level: Map, even: Map, allowed: Mask, hole_px: float, how: Outlining, mpp: float
) -> tuple[Labels, NDArray[np.float64]]:
    """Move each nucleus's border to where the level lies halfway between its inside and its surroundings.

    So the border of a dark nucleus does not include its blur, and that of a pale nucleus lies on its
    membrane. The ellipse of the same second moments decides about doubtful pixels: it keeps those inside, and
    drops spurs.

    `level` is the hematoxylin (h, w), and `even` is the same with the gaps in the chromatin closed. Only
    `allowed` pixels (h, w) may belong to a nucleus, but its holes up to `hole_px` are filled in any case.

    Return the labels (h, w) with the same ids, of which some may be missing. Return also the contrast of each
    nucleus, shape (largest label + 1,): its mean level minus that of the ring around it.
    """
    count = int(labels.max(initial=0))
    near = grown(labels, max(1, round(how.reach_um / mpp)))
    at = np.flatnonzero(near)
    number = near.ravel()[at]
    inside = labels.ravel()[at]
    y, x = (axis.astype(np.float64) for axis in np.divmod(at, labels.shape[1]))

    contrast, around = _contrast(number, inside, level.ravel()[at], count)
    place = ellipses(inside, x, y, count).place(number, x, y)
    margin = even.ravel()[at] / contrast[number] - (around / contrast + how.half)[number]
    belongs = margin.clip(-1, 1) + how.roundness * (1 - place) > 0
    mask = np.zeros(labels.shape, bool)
    mask.ravel()[at] = belongs & allowed.ravel()[at]
    mask |= smaller(~mask, hole_px)
    return largest_parts(near * opening(mask, odd(how.thread_um / mpp))), contrast


def _contrast(
    number: Labels, inside: Labels, level: Map, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Contrast of each nucleus to the ring around it, and the mean level of the ring; 0 without a ring."""
    pixels, level_sum = (np.bincount(inside, w, minlength=count + 1) for w in (None, level))
    ring = np.maximum(np.bincount(number, minlength=count + 1) - pixels, 1)
    around = (np.bincount(number, level, minlength=count + 1) - level_sum) / ring
    return np.maximum(level_sum / np.maximum(pixels, 1) - around, FLAT), around
