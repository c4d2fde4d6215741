"""The outline of each nucleus, drawn anew by its own contrast and shape, and those without contrast dropped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.cells.morphology import Labels, Map, Mask, grown, odd, opened, smaller

# Contrast that a nucleus is taken to have at least, where it is divided by.
FLAT = 0.05
# Variance of positions within a pixel, and a little: a line one pixel wide has an ellipse too.
WITHIN_PX = 0.3


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
    evident_um
        Least contrast times square root of area: a small nucleus needs more contrast than a large one.
    """

    reach_um: float = 1.0
    half: float = 0.55
    roundness: float = 0.6
    thread_um: float = 1.5
    evident_um: float = 1.9


def outline(
    labels: Labels, level: Map, even: Map, allowed: Mask, hole_px: float, how: Outlining, mpp: float
) -> Labels:
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
        Pixels (h, w) that may belong to a nucleus.
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
    """
    count = int(labels.max(initial=0))
    near = grown(labels, max(1, round(how.reach_um / mpp))) * allowed
    at = np.flatnonzero(near)
    number = near.ravel()[at]
    within = labels.ravel()[at] > 0
    y, x = (axis.astype(np.float64) for axis in np.divmod(at, labels.shape[1]))

    inside = _means(number[within], count, *(v[within] for v in (level.ravel()[at], x, y)))
    (around,) = _means(number[~within], count, level.ravel()[at][~within])
    contrast = np.maximum(inside[0] - around, FLAT)
    dx, dy = x - inside[1][number], y - inside[2][number]
    xx, yy, xy = _means(number[within], count, *(v[within] for v in (dx * dx, dy * dy, dx * dy)))
    xx, yy = xx + WITHIN_PX, yy + WITHIN_PX
    # Squared distance from the centre over that of the ellipse's border in the same direction.
    squared = yy[number] * dx * dx - 2 * xy[number] * dx * dy + xx[number] * dy * dy
    squared /= 4 * (xx * yy - xy * xy)[number]

    margin = (even.ravel()[at] - around[number]) / contrast[number] - how.half
    belongs = margin.clip(-1, 1) + how.roundness * (1 - np.sqrt(squared)) > 0
    mask = np.zeros(labels.shape, bool)
    mask.ravel()[at] = belongs
    mask |= smaller(~mask, hole_px)
    result = near * opened(mask, odd(how.thread_um / mpp))

    area_um2 = np.bincount(result.ravel(), minlength=count + 1) * mpp**2
    evident = contrast * np.sqrt(area_um2) > how.evident_um
    evident[0] = False
    return np.asarray(result * evident[result], np.int32)


def _means(number: Labels, count: int, *values: NDArray[np.floating]) -> list[NDArray[np.float64]]:
    """Mean of each of `values` over the pixels of each number, 0 where there are none."""
    pixels = np.maximum(np.bincount(number, minlength=count + 1), 1)
    return [np.bincount(number, value, minlength=count + 1) / pixels for value in values]
