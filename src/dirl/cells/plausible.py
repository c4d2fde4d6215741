"""Whether nuclei have the size of nuclei: if they do not, the stated resolution is likely wrong."""

import numpy as np
from numpy.typing import ArrayLike

# Fewer say nothing.
FEW = 100
# Half of the nuclei of tissue are at least so wide, and half of their area lies in nuclei at most so wide:
# on 13 images of seven organs at their true resolution 5.1 to 7.6 µm, and 5.4 to 9.3 µm.
SMALLEST_UM = 5.0
LARGEST_UM = 9.6
TYPICAL_UM = 7.0


def implausible(area_um2: ArrayLike, mpp: float) -> str | None:
    """Say what is odd about the sizes of a slide's nuclei, and which resolution they would fit.

    Small ones are judged by the median diameter, large ones by the diameter that parts the nuclear area in
    halves: a segmenter breaks up what is larger than it expects, and pieces would hide the large ones.
    Diameters are those of discs of the same area.

    Parameters
    ----------
    area_um2
        Areas of whole nuclei, by the stated resolution.
    mpp
        The stated resolution in µm/px.

    Returns
    -------
    str or None
        None where sizes are usual, or too few to say. A factor of two is not always noticed: segmenters
        that look for a certain size find it, whatever is there.
    """
    area = np.sort(np.asarray(area_um2, np.float64))
    if len(area) < FEW:
        return None
    median = _diameter(area[len(area) // 2])
    of_area = _diameter(area[np.searchsorted(np.cumsum(area), area.sum() / 2)])
    if median < SMALLEST_UM:
        found = f"half of the nuclei are less than {median:.1f} µm across, usual is {SMALLEST_UM:g} or more"
        factor = max(2.0, _power_of_two(TYPICAL_UM / median))
    elif of_area > LARGEST_UM:
        found = (
            f"half of the nuclear area is in nuclei more than {of_area:.1f} µm across, "
            f"usual is {LARGEST_UM:g} or less"
        )
        factor = min(0.5, _power_of_two(TYPICAL_UM / of_area))
    else:
        return None
    return f"{found}: if the stated {mpp:g} µm/px is wrong, {mpp * factor:g} would fit better"


def _diameter(area: float) -> float:
    return float(2 * np.sqrt(area / np.pi))


def _power_of_two(ratio: float) -> float:
    return float(2.0 ** np.round(np.log2(ratio)))
