"""Which pixels of a slide are tissue: neither glass, nor ink, nor the black around a scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import remove_small_holes, remove_small_objects

from dirl.slides.slide import Slide, level_for, read

MASK_MPP = 8.0
BLOCK_PX = 512  # of the mask, read at a time
READ_PX = 8192  # of a level, at most, so that a slide of one level is never held whole
WHITE = (255.0, 255.0, 255.0)
MIN_GLASS = 210  # of each channel

# Optical density over the glass. H&E absorbs green most: hematoxylin takes about as much red and half the
# blue, eosin hardly any red. So tissue is dense in green, and denser there than in red or blue; dust, shadow
# and glass that is not quite white are as dense in all three.
MIN_TISSUE_OD = 0.06
MIN_STAIN_OD = 0.03
# A pen's stroke is far larger than any nucleus, which at full resolution can be as blue.
INK_UM2 = 2_000.0
INK_RIM_UM = 16.0
SPECK_UM2 = 10_000.0
HOLE_UM2 = 2_000.0


@dataclass(frozen=True)
class TissueMask:
    """Tissue at low power.

    Attributes
    ----------
    mask : ndarray of shape (h, w), bool
        True on tissue. Its first pixel's corner is the slide's.
    mpp
        Resolution of the mask, in µm/px.
    white
        Red, green and blue of the slide's bare glass, 0 to 255; `tissue_pixels` takes it.
    """

    mask: NDArray[np.bool_]
    mpp: float
    white: tuple[float, float, float]

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean())


def find_tissue(slide: Slide) -> TissueMask:
    """Find a slide's tissue at about 8 µm/px.

    A pixel is tissue when it absorbs more green than the slide's own glass does, and is neither ink nor
    black. Specks and holes below 0.01 mm² (1 % of a small slide) are cleaned away.
    """
    mpp = max(MASK_MPP, slide.info.mpp)
    # Some pyramids are made by leaving pixels out; smoothing makes up for that.
    rgb = ndimage.uniform_filter(low_power(slide, mpp), (3, 3, 0), mode="nearest")
    white = glass_colour(rgb)
    foreign = _ink(rgb, white, mpp) | _black(rgb)
    tissue = _stained(rgb, white) & ~foreign
    limit = 0.01 * tissue.size * mpp**2
    tissue = _clean(tissue, min(SPECK_UM2, limit), min(HOLE_UM2, limit), mpp)
    return TissueMask(tissue & ~foreign, mpp, white)


def tissue_pixels(
    rgb: NDArray[np.uint8], mpp: float, white: tuple[float, float, float] | None = None
) -> NDArray[np.bool_]:
    """Tell tissue from glass, ink and black at full resolution, as in a tile.

    Decided at about 1 µm/px and smoothed over 3 µm, so that the pale inside of a nucleus and the noise of
    the glass do not count. Specks below 20 µm² go, holes below 50 µm² are filled: lumina and vessels stay.

    Parameters
    ----------
    rgb : ndarray of shape (h, w, 3), uint8
        Pixels of a slide or tile.
    mpp
        Their resolution, in µm/px.
    white
        Colour of the bare glass, `TissueMask.white`. By default it is guessed from the brightest 2 % of the
        pixels, which can take the palest mucus of a tile without glass for glass.

    Returns
    -------
    ndarray of shape (h, w), bool
    """
    factor = max(1, round(1.0 / mpp))
    small = _shrink(rgb, factor)
    smooth = ndimage.uniform_filter(small, (3, 3, 0), mode="nearest")
    white = white or _brightest(smooth)
    tissue = _stained(smooth, white) & ~_ink(smooth, white, mpp * factor) & ~_black(smooth)
    tissue = _clean(tissue, 20.0, 50.0, mpp * factor)
    height, width = rgb.shape[:2]
    return tissue.repeat(factor, 0).repeat(factor, 1)[:height, :width]


def low_power(slide: Slide, mpp: float) -> NDArray[np.uint8]:
    """Read a whole slide at a coarse resolution, block by block.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
    """
    width, height = (int(np.ceil(side * slide.info.mpp / mpp)) for side in slide.info.size_px)
    image = np.empty((height, width, 3), np.uint8)
    scale = mpp / slide.info.mpp
    step = scale / slide.info.level_downsamples[level_for(slide.info, mpp)]
    block = max(1, min(BLOCK_PX, int(READ_PX / step)))
    for y in range(0, height, block):
        for x in range(0, width, block):
            h, w = min(block, height - y), min(block, width - x)
            image[y : y + h, x : x + w] = read(slide, x * scale, y * scale, w, h, mpp, allow_upsample=True)
    return image


def glass_colour(rgb: NDArray[np.uint8]) -> tuple[float, float, float]:
    """Colour of the bare glass: the median of what is bright and grey, white where there is too little.

    Pure white does not count: scanners fill with it what they did not scan.
    """
    bright = (rgb.min(-1) >= MIN_GLASS) & (rgb.min(-1) < 254) & (np.ptp(rgb, axis=-1) <= 20)
    if bright.mean() < 0.01:
        return WHITE
    red, green, blue = np.median(rgb[bright], axis=0)
    return float(red), float(green), float(blue)


def _brightest(rgb: NDArray[np.float32]) -> tuple[float, float, float]:
    """Colour of the brightest 2 % of the pixels if that can be glass, else white."""
    green = rgb[..., 1]
    red, green, blue = np.median(rgb[green >= np.quantile(green, 0.98)], axis=0)
    return (float(red), float(green), float(blue)) if green >= MIN_GLASS else WHITE


def _density(rgb: NDArray[np.generic], white: tuple[float, float, float]) -> NDArray[np.float32]:
    ratio = (rgb.astype(np.float32) + 1) / (np.asarray(white, np.float32) + 1)
    return np.asarray(-np.log(np.minimum(ratio, 1)), np.float32)


def _stained(rgb: NDArray[np.generic], white: tuple[float, float, float]) -> NDArray[np.bool_]:
    red, green, blue = np.moveaxis(_density(rgb, white), -1, 0)
    return np.asarray((green > MIN_TISSUE_OD) & (green - np.minimum(red, blue) > MIN_STAIN_OD))


def _black(rgb: NDArray[np.generic]) -> NDArray[np.bool_]:
    # Hematoxylin is never grey: its green stays well below its blue, however dense it is.
    brightest = rgb.max(-1)
    return np.asarray((brightest < 30) | ((brightest < 90) & (rgb.min(-1) > 0.75 * brightest)))


def _ink(rgb: NDArray[np.generic], white: tuple[float, float, float], mpp: float) -> NDArray[np.bool_]:
    """Pen marks: strong colour that no mixture of hematoxylin and eosin has, and the pale rim around it."""
    red, green, blue = np.moveaxis(_density(rgb, white), -1, 0)
    # Blue and green pens absorb red most, over tissue too when they are dense; red pens absorb blue nearly as
    # much as green, and no red.
    strong = ((red > 0.3) & (red > 1.3 * green)) | ((red > 0.9) & (red > 1.07 * green))
    strong |= (green > 1.5) & (blue > 0.7 * green) & (red < 0.25 * green)
    strong = remove_small_objects(strong, max_size=int(INK_UM2 / mpp**2))
    if not strong.any():
        return np.zeros(strong.shape, bool)
    weak = strong | ((red > 0.06) & (red > green)) | ((blue > 0.75 * green) & (red < 0.4 * green))
    marks = ndimage.binary_propagation(strong, mask=weak)
    return np.asarray(ndimage.distance_transform_edt(~marks) <= INK_RIM_UM / mpp)


def _clean(mask: NDArray[np.bool_], speck_um2: float, hole_um2: float, mpp: float) -> NDArray[np.bool_]:
    mask = remove_small_objects(mask, max_size=int(speck_um2 / mpp**2))
    return np.asarray(remove_small_holes(mask, max_size=int(hole_um2 / mpp**2)))


def _shrink(rgb: NDArray[np.uint8], factor: int) -> NDArray[np.float32]:
    """Means of blocks; the edge is repeated to fill the last ones."""
    height, width = rgb.shape[:2]
    pad = ((0, -height % factor), (0, -width % factor), (0, 0))
    if any(after for _, after in pad):
        rgb = np.pad(rgb, pad, mode="edge")
    shape = (rgb.shape[0] // factor, rgb.shape[1] // factor, 3)
    total: NDArray[np.float32] = np.zeros(shape, np.float32)
    for i in range(factor):
        for j in range(factor):
            total += rgb[i::factor, j::factor]
    return total / np.float32(factor**2)
