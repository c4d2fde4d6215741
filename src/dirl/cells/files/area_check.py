"""A check of the areas in a file: they must be areas of nuclei."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError, DirlWarning

# Usual range of a median area. Another median hints at a wrong resolution, or at other objects.
NUCLEUS_UM2 = (8.0, 600.0)
# A region is larger than any nucleus, even if the resolution is wrong by a factor of four.
REGION_UM2 = 5000.0
# A region is also this many times as large as the median of its file.
REGION_TIMES = 10
REGIONS = f"larger than any nucleus (over {REGION_UM2:,.0f} µm²), left out"
# Fewer nuclei may all be cut by the border of the image, so their median can be small.
FEW = 5


def check_areas(areas_um2: NDArray[np.float64], mpp: float, file: Path) -> None:
    """Raise a `ConfigError` if a file's areas (n,) are those of regions, and warn if the median is unusual.

    They are those of regions if the median is larger than `REGION_UM2`. `mpp` is µm/px of the image.
    """
    if not len(areas_um2):
        return
    area = float(np.median(areas_um2))
    least, most = NUCLEUS_UM2
    if area > REGION_UM2:
        raise ConfigError(
            f"the median area is {area:,.0f} µm² at {mpp:g} µm/px: regions, not nuclei",
            where=file,
            remedy="give one outline or one id for each nucleus, and no regions",
        )
    if area > most or (area < least and len(areas_um2) >= FEW):
        warnings.warn(
            f"{file}: the median area of {area:.3g} µm² is unusual for nuclei; check that the objects are "
            f"nuclei, and that the image has {mpp:g} µm/px",
            category=DirlWarning,
            stacklevel=3,
        )


def are_regions(areas_um2: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return a mask, shape (n,), of areas that are too large for a nucleus and far above the median."""
    if not len(areas_um2):
        return np.zeros(0, bool)
    usual = np.quantile(areas_um2, 0.5, method="lower")
    return np.asarray((areas_um2 > REGION_UM2) & (areas_um2 > REGION_TIMES * usual))
