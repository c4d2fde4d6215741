"""Whether the areas that a file holds can be nuclei."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError, DirlWarning

# A median outside of these is no nucleus's: coordinates of another resolution, or other objects.
NUCLEUS_UM2 = (8.0, 600.0)
# So large is no nucleus, even where the resolution is wrong by a factor of four.
REGION_UM2 = 5000.0
# A region among nuclei is so many times as large as their median, too.
REGION_TIMES = 10
REGIONS = f"larger than any nucleus (over {REGION_UM2:,.0f} µm²), left out"
# The median of fewer may be that of nuclei that the border cuts.
FEW = 5


def check_areas(areas_um2: NDArray[np.float64], mpp: float, file: Path) -> None:
    """Refuse regions, and warn of areas that no nucleus has.

    Parameters
    ----------
    areas_um2 : ndarray of shape (n,)
        Of all nuclei of a file.
    mpp
        µm/px of the image.
    file
        Named in the message.

    Raises
    ------
    ConfigError
        If the median is larger than `REGION_UM2`.
    """
    if not len(areas_um2):
        return
    area = float(np.median(areas_um2))
    least, most = NUCLEUS_UM2
    if area > REGION_UM2:
        raise ConfigError(
            f"the median area is {area:,.0f} µm² at {mpp:g} µm/px: regions, not nuclei",
            where=file,
            remedy="bring one outline or one id for each nucleus, and no regions",
        )
    if area > most or (area < least and len(areas_um2) >= FEW):
        warnings.warn(
            f"{file}: the median area is {area:.3g} µm², which no nucleus has — are the objects nuclei, and "
            f"do they lie on an image of {mpp:g} µm/px?",
            category=DirlWarning,
            stacklevel=3,
        )


def regions_among(areas_um2: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which areas, shape (n,), are regions among nuclei: too large for one, and far above the median."""
    if not len(areas_um2):
        return np.zeros(0, bool)
    usual = np.quantile(areas_um2, 0.5, method="lower")
    return np.asarray((areas_um2 > REGION_UM2) & (areas_um2 > REGION_TIMES * usual))
