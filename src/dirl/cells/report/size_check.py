"""Whether a slide's nuclei have the size of nuclei: if they do not, the stated resolution is likely wrong."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from dirl.cells.base import Image

# Fewer pixels of tissue say nothing.
FEW_PX = 100_000
# Blobs are looked for from this standard deviation in pixels on, in steps of a quarter of an octave.
SCALES_PX = 2.0 ** (np.arange(17) / 4)
# A window is as wide as so many standard deviations, at least.
WIDTHS = 8
# Standard deviation at which nuclei answer most: 1.8 to 2.6 µm on 12 of 13 images of seven organs at their
# true resolution, on the other 3.1 beside the grain of its chromatin at 0.8.
SMALLEST_UM = 1.4
LARGEST_UM = 3.3
TYPICAL_UM = 2.1
# Red over green optical density of eosin alone.
EOSIN = 0.25


def blob_sizes(images: Sequence[Image], mpp: float) -> list[float]:
    """Sizes at which a slide's hematoxylin is most made up of blobs.

    The Laplacian of a Gaussian, multiplied by the square of its standard deviation, answers most to discs
    whose radius is √2 standard deviations, whatever their size (Lindeberg, 1998). The mean fourth power of
    its answers to dark blobs, over all images, peaks where nuclei are: no segmenter is asked, which would
    find what it looks for.

    Parameters
    ----------
    images
        Parts of the slide (h, w, 3), uint8.
    mpp
        Their resolution in µm/px, as stated.

    Returns
    -------
    list of float
        Standard deviations in µm, the greatest peak first; none where there is too little tissue, or
        nothing stands out.
    """
    stains = [_hematoxylin(image) for image in images]
    tissue = np.concatenate([level[inside] for level, inside in stains] or [np.zeros(0, np.float32)])
    if len(tissue) < FEW_PX or np.ptp(tissue) == 0:
        return []
    middle = threshold_otsu(tissue)  # type: ignore[no-untyped-call]
    # Between the two means, so that neither chromatin nor dark folds count for more than nuclei.
    low, high = tissue[tissue <= middle].mean(), tissue[tissue > middle].mean()
    levels = [level.clip(low, high) for level, _ in stains]
    answers = np.array([_answer(levels, sigma) for sigma in SCALES_PX])
    known = answers[~np.isnan(answers)]
    inner = [k for k in range(1, len(known) - 1) if known[k - 1] < known[k] >= known[k + 1]]
    peaks = sorted(inner, key=lambda k: -known[k])
    return [float(SCALES_PX[k]) * mpp for k in peaks]


def implausible(sizes_um: Sequence[float], mpp: float) -> str | None:
    """Say what is odd about the sizes of a slide's blobs, and which resolution they would fit.

    Parameters
    ----------
    sizes_um
        From `blob_sizes`.
    mpp
        The slide's stated resolution in µm/px.

    Returns
    -------
    str or None
        None where nuclei may be among them, or where nothing is known.
    """
    if not sizes_um or any(SMALLEST_UM <= size <= LARGEST_UM for size in sizes_um):
        return None
    found = sizes_um[0]
    # Doubled or halved at least once.
    steps = round(float(np.log2(TYPICAL_UM / found))) or (1 if found < SMALLEST_UM else -1)
    # A disc answers most at a standard deviation of its radius over √2.
    width, usual = (2 * np.sqrt(2) * np.array(size) for size in (found, (SMALLEST_UM, LARGEST_UM)))
    return (
        f"what looks like nuclei is about {width:.1f} µm across, usual are {usual[0]:.0f} to {usual[1]:.0f}: "
        f"if the stated {mpp:g} µm/px is wrong, {mpp * 2.0**steps:g} would fit better"
    )


def _hematoxylin(rgb: Image) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Hematoxylin (h, w) in units of red optical density, and where there is tissue."""
    red, green = np.moveaxis(-np.log((rgb[..., :2].astype(np.float32) + 1) / 256), -1, 0)
    return red - np.float32(EOSIN) * green, green > 0.15


def _answer(levels: Sequence[NDArray[np.float32]], sigma: float) -> float:
    """Mean fourth power of the answers to dark blobs of one size; NaN where no image is wide enough."""
    border = int(2 * sigma) + 1
    total = count = 0.0
    for level in levels:
        if min(level.shape) < WIDTHS * sigma:
            continue
        answer = -(sigma**2) * ndimage.gaussian_laplace(level, sigma)[border:-border, border:-border]
        total += float((answer.clip(0) ** 4).sum())
        count += answer.size
    return total / count if count else np.nan
