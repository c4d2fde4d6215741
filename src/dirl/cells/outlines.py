"""The outline of each nucleus, drawn anew by its own contrast and shape; without contrast it is dropped."""

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
    inside = labels.ravel()[at]
    y, x = (axis.astype(np.float64) for axis in np.divmod(at, labels.shape[1]))
    here = level.ravel()[at]

    contrast, around = _contrast(number, inside, here, count)
    place = _ellipses(inside, x, y, count)
    dx, dy = x - place.x[number], y - place.y[number]
    # Squared distance from the centre over that of the ellipse's border in the same direction.
    squared = place.a[number] * dx * dx + place.b[number] * dx * dy + place.c[number] * dy * dy

    margin = even.ravel()[at] / contrast[number] - (around / contrast + how.half)[number]
    belongs = margin.clip(-1, 1) + how.roundness * (1 - np.sqrt(squared)) > 0
    mask = np.zeros(labels.shape, bool)
    mask.ravel()[at] = belongs
    mask |= smaller(~mask, hole_px)
    result = near * opened(mask, odd(how.thread_um / mpp))

    area_um2 = np.bincount(result.ravel(), minlength=count + 1) * mpp**2
    evident = contrast * np.sqrt(area_um2) > how.evident_um
    evident[0] = False
    return np.asarray(result * evident[result], np.int32)


def _contrast(
    number: Labels, inside: Labels, level: Map, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean level of each nucleus less that of the ring around it, and the ring's; 0 where there is none."""
    pixels, level_sum = (np.bincount(inside, w, minlength=count + 1) for w in (None, level))
    ring = np.maximum(np.bincount(number, minlength=count + 1) - pixels, 1)
    around = (np.bincount(number, level, minlength=count + 1) - level_sum) / ring
    return np.maximum(level_sum / np.maximum(pixels, 1) - around, FLAT), around


@dataclass(frozen=True)
class _Ellipses:
    """Centres x, y of ellipses whose border is ``a dx² + b dx dy + c dy² = 1``."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    c: NDArray[np.float64]


def _ellipses(inside: Labels, x: NDArray[np.float64], y: NDArray[np.float64], count: int) -> _Ellipses:
    """Ellipses of the same second moments as the pixels of each number."""
    pixels = np.maximum(np.bincount(inside, minlength=count + 1), 1)
    mean_x, mean_y, xx, yy, xy = (
        np.bincount(inside, w, minlength=count + 1) / pixels for w in (x, y, x * x, y * y, x * y)
    )
    xx, yy, xy = xx - mean_x**2 + WITHIN_PX, yy - mean_y**2 + WITHIN_PX, xy - mean_x * mean_y
    determinant = 4 * (xx * yy - xy * xy)
    return _Ellipses(mean_x, mean_y, yy / determinant, -2 * xy / determinant, xx / determinant)
