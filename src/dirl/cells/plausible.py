"""Whether nuclei have the size of nuclei: if they do not, the stated resolution is likely wrong."""

import numpy as np
from numpy.typing import ArrayLike

# Fewer say nothing.
FEW = 100
# Half of the nuclear area lies in nuclei at most so wide: on 13 images of seven organs at their true
# resolution 5.3 to 9.2 µm as annotated, and 5.4 to 9.3 µm as the embedded segmenter finds them.
SMALLEST_UM = 5.2
LARGEST_UM = 9.6
TYPICAL_UM = 7.0


def implausible(area_um2: ArrayLike, mpp: float) -> str | None:
    """Say what is odd about the sizes of a slide's nuclei, and which resolution they would fit.

    Judged is the diameter that parts the nuclear area in halves: debris and broken pieces, which are many
    but small, hardly move it. Diameters are those of discs of the same area.

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
    middle = area[np.searchsorted(np.cumsum(area), area.sum() / 2)]
    width = float(2 * np.sqrt(middle / np.pi))
    if SMALLEST_UM <= width <= LARGEST_UM:
        return None
    # Doubled or halved at least once.
    steps = round(float(np.log2(TYPICAL_UM / width))) or (1 if width < SMALLEST_UM else -1)
    found = (
        f"half of the nuclear area is in nuclei up to {width:.1f} µm across, "
        f"usual are {SMALLEST_UM:g} to {LARGEST_UM:g}"
    )
    return f"{found}: if the stated {mpp:g} µm/px is wrong, {mpp * 2.0**steps:g} would fit better"
