"""Checks of what a slide states: what looks like nuclei must have their size, and nuclei must be dark."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from dirl.cells.base import Image

# With fewer pixels of tissue there is no result.
FEW_TISSUE_PX = 100_000
# Standard deviations at which blobs are measured, in steps of a quarter of an octave.
SCALES_PX = 2.0 ** (np.arange(17) / 4)
# Least width of an image, in standard deviations.
WIDTHS = 8
# Standard deviation at which nuclei have the largest response. On 13 images of seven organs at their true
# resolution it was 1.8 to 2.6 µm for 12. The other had 3.1 µm, and 0.8 µm for its chromatin.
SMALLEST_UM = 1.4
LARGEST_UM = 3.3
TYPICAL_UM = 2.1
# Red over green optical density of eosin alone.
EOSIN = 0.25
# Least ratio of the mean red optical density of nuclei to that of the other tissue. Of 40 annotated images,
# 39 have 1.5 or more. With labels that are shifted, mirrored or transposed, all have 1.1 or less.
LEAST_CONTRAST = 1.2
# With fewer pixels there is no result.
FEW_NUCLEI_PX = 3000


class NuclearContrast:
    """Sums of optical densities over the tiles of a slide."""

    def __init__(self) -> None:
        self._density = np.zeros(2)
        self._pixels = np.zeros(2)

    def add(self, rgb: Image, labels: NDArray[np.int32], tissue: NDArray[np.bool_]) -> None:
        """Add a tile (h, w, 3), its labels (h, w), and its tissue (h, w)."""
        red = -np.log((rgb[..., 0].astype(np.float32) + 1) / 256)
        for i, here in enumerate((labels > 0, tissue & (labels == 0))):
            self._density[i] += red[here].sum(dtype=np.float64)
            self._pixels[i] += np.count_nonzero(here)

    def doubt(self) -> str | None:
        """Return a message if nuclei are not darker than other tissue; None if they are, or without data."""
        if self._pixels.min() < FEW_NUCLEI_PX:
            return None
        nuclei, others = self._density / self._pixels
        if nuclei >= LEAST_CONTRAST * others:
            return None
        return (
            f"its nuclei are hardly darker than the other tissue (red optical density {nuclei:.2f} and "
            f"{others:.2f}): they may belong to another slide, or their coordinates may be of another "
            "resolution, mirrored or shifted"
        )


def blob_sizes(images: Sequence[Image], mpp: float) -> list[float]:
    """Measure the sizes of the blobs in a slide's hematoxylin.

    The Laplacian of a Gaussian is multiplied by the square of its standard deviation. Its response is largest
    to discs with a radius of √2 standard deviations (Lindeberg, 1998). The mean fourth power of the responses
    to dark blobs, over all images, has a peak at the size of nuclei. No segmenter is used, since a segmenter
    finds nuclei of the size that it expects.

    The images (h, w, 3) are parts of the slide, at its stated `mpp` in µm/px. Return the standard deviations
    of the peaks in µm, the largest peak first. There are none without a peak, or with too little tissue.
    """
    stains = [_hematoxylin(image) for image in images]
    tissue = np.concatenate([level[inside] for level, inside in stains] or [np.zeros(0, np.float32)])
    if len(tissue) < FEW_TISSUE_PX or np.ptp(tissue) == 0:
        return []
    middle = threshold_otsu(tissue)  # type: ignore[no-untyped-call]
    # Clipped to the two means, chromatin and dark folds do not outweigh nuclei.
    low, high = tissue[tissue <= middle].mean(), tissue[tissue > middle].mean()
    levels = [level.clip(low, high) for level, _ in stains]
    responses = np.array([_response(levels, sigma) for sigma in SCALES_PX])
    valid = responses[~np.isnan(responses)]
    inner = [k for k in range(1, len(valid) - 1) if valid[k - 1] < valid[k] >= valid[k + 1]]
    peaks = sorted(inner, key=lambda k: -valid[k])
    return [float(SCALES_PX[k]) * mpp for k in peaks]


def resolution_doubt(sizes_um: Sequence[float], mpp: float) -> str | None:
    """Return a message if a slide's blobs do not have the size of nuclei, with the resolution that would fit.

    `sizes_um` are those of `blob_sizes`, and `mpp` is the slide's stated resolution in µm/px.
    """
    if not sizes_um or any(SMALLEST_UM <= size <= LARGEST_UM for size in sizes_um):
        return None
    found = sizes_um[0]
    # The resolution changes by a power of two, at least once.
    steps = round(float(np.log2(TYPICAL_UM / found))) or (1 if found < SMALLEST_UM else -1)
    # A disc has its largest response at a standard deviation of its radius over √2.
    width, usual = (2 * np.sqrt(2) * np.array(size) for size in (found, (SMALLEST_UM, LARGEST_UM)))
    return (
        f"objects that look like nuclei are about {width:.1f} µm wide, usual are {usual[0]:.0f} to "
        f"{usual[1]:.0f}: if the stated {mpp:g} µm/px is wrong, {mpp * 2.0**steps:g} would fit better"
    )


def _hematoxylin(rgb: Image) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Hematoxylin (h, w) in units of red optical density, and a mask of the tissue (h, w)."""
    red, green = np.moveaxis(-np.log((rgb[..., :2].astype(np.float32) + 1) / 256), -1, 0)
    return red - np.float32(EOSIN) * green, green > 0.15


def _response(levels: Sequence[NDArray[np.float32]], sigma: float) -> float:
    """Mean fourth power of the responses to dark blobs of one size; NaN if no image is wide enough."""
    border = int(2 * sigma) + 1
    total = count = 0.0
    for level in levels:
        if min(level.shape) < WIDTHS * sigma:
            continue
        response = -(sigma**2) * ndimage.gaussian_laplace(level, sigma)[border:-border, border:-border]
        total += float((response.clip(0) ** 4).sum())
        count += response.size
    return total / count if count else np.nan
