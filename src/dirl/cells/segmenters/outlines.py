"""The outline of each nucleus, drawn anew by its own contrast and shape."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.cells.segmenters.ellipses import ellipses
from dirl.cells.segmenters.morphology import Labels, Map, Mask, grown, largest_parts, odd, opened, smaller

# Contrast that a nucleus is taken to have at least, where it is divided by.
FLAT = 0.05


@dataclass(frozen=True)
class Outlining:
    """How nuclei are outlined one by one.

    Parameters
    ----------
    reach_um
        How far an outline may move out; also the width of the ring that a nucleus is compared with.
    half
        Share of the way from the ring's level to the nucleus's at which its border lies.
    roundness
        How much the place in the nucleus's ellipse counts beside the level: at the ellipse's border nothing,
        in its centre so much of the contrast.
    thread_um
        Width of threads that are cut off in the end.
    """

    reach_um: float = 1.0
    half: float = 0.55
    roundness: float = 0.6
    thread_um: float = 1.5


def outline(
    labels: Labels, level: Map, even: Map, allowed: Mask, hole_px: float, how: Outlining, mpp: float
) -> tuple[Labels, NDArray[np.float64]]:
    """Draw each nucleus's border where the level is halfway between its inside and its surroundings.

    A dark nucleus's border is then not drawn around its blur, and a pale one's not inside its membrane. The
    ellipse of the same second moments says which doubtful pixels belong: those inside, not spurs.

    Parameters
    ----------
    labels
        Nuclei (h, w), 0 for none.
    level, even
        Hematoxylin (h, w), and the same with the gaps in the chromatin closed.
    allowed
        Pixels (h, w) that may belong to a nucleus, or lie in a hole of it.
    hole_px
        Holes up to this area are filled.
    how
        Settings.
    mpp
        µm/px of all of these.

    Returns
    -------
    ndarray of shape (h, w), int32
        Same numbers, of which some may be gone.
    ndarray of shape (largest label + 1,)
        Contrast of each: its mean level less that of the ring around it.
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
    return largest_parts(near * opened(mask, odd(how.thread_um / mpp))), contrast


def _contrast(
    number: Labels, inside: Labels, level: Map, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean level of each nucleus less that of the ring around it, and the ring's; 0 where there is none."""
    pixels, level_sum = (np.bincount(inside, w, minlength=count + 1) for w in (None, level))
    ring = np.maximum(np.bincount(number, minlength=count + 1) - pixels, 1)
    around = (np.bincount(number, level, minlength=count + 1) - level_sum) / ring
    return np.maximum(level_sum / np.maximum(pixels, 1) - around, FLAT), around
