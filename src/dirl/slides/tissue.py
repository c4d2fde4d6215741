"""Tissue of a slide: pixels that are neither glass, nor ink, nor the black around a scan."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.core.errors import DirlWarning, SlideError
from dirl.slides.base import Slide, level_for
from dirl.slides.glass import WHITE, Colour, brightest, density, glass_colour
from dirl.slides.reading import read_box

MASK_MPP = 8.0
BLOCK_PX = 512  # side of the part of the mask that is read at a time
MOST_LOW_POWER_PX = 1 << 28  # a damaged header may claim any size
READ_PX = 8192  # largest side read of a level, so that a slide of one level is never held whole

# Optical density over the glass. H&E absorbs green most. Hematoxylin absorbs about as much red and half as
# much blue, eosin hardly any red. So tissue is denser in green than in red or blue. Dust, shadow and glass
# that is not quite white are as dense in all three.
MIN_TISSUE_OD = 0.06
MIN_STAIN_OD = 0.03
# A pixel is black if every channel passes less than an eighth of the light; if it is grey, less than a third.
BLACK_OD, DARK_OD, GREY_OD = 2.1, 1.02, 0.29
# A pen's stroke is far larger than a nucleus, which can be as blue at full resolution.
INK_UM2 = 2_000.0
INK_RIM_UM = 16.0
SPECK_UM2 = 10_000.0
HOLE_UM2 = 2_000.0
NEARLY_ALL = 0.95


@dataclass(frozen=True)
class TissueMask:
    """Tissue at low power.

    Attributes
    ----------
    mask : ndarray of shape (h, w), bool
        True on tissue. Its top-left corner is the slide's.
    mpp
        Resolution of the mask, in µm/px.
    white
        Red, green and blue of the slide's bare glass, 0 to 255; an argument of `tissue_pixels`.
    """

    mask: NDArray[np.bool_]
    mpp: float
    white: Colour

    @property
    def fraction(self) -> float:
        """Share of the slide that is tissue."""
        return float(self.mask.mean())


def find_tissue(slide: Slide) -> TissueMask:
    """Find a slide's tissue at about 8 µm/px.

    A pixel is tissue if it absorbs more green than the slide's glass, and is neither ink nor black. Specks
    and holes below 0.01 mm² (1 % of a small slide) are removed.
    """
    mpp = max(MASK_MPP, slide.info.mpp)
    # Some pyramids were made by skipping pixels. Smoothing compensates for that.
    rgb = ndimage.uniform_filter(low_power(slide, mpp), (3, 3, 0), mode="nearest")
    white = glass_colour(rgb)
    dark = density(rgb, white)
    foreign = _ink(dark, mpp) | _black(dark)
    tissue = _stained(dark) & ~foreign
    limit = 0.01 * tissue.size * mpp**2
    tissue = _clean(tissue, min(SPECK_UM2, limit), min(HOLE_UM2, limit), mpp)
    return TissueMask(tissue & ~foreign, mpp, white)


def warn_all_tissue(slides: Iterable[tuple[str, Colour, float]]) -> None:
    """Warn of slides without bare glass that are nearly all tissue: name, colour of the glass, and share."""
    names = [name for name, white, share in slides if white == WHITE and share > NEARLY_ALL]
    if names:
        which = names[0] if len(names) == 1 else f"{len(names)} slides, the first {names[0]}"
        warnings.warn(
            f"no bare glass found, and nearly everything is taken as tissue: {which}. This is right for a "
            "crop of tissue. If the slide shows glass, correct its white balance, or include more glass.",
            category=DirlWarning,
            stacklevel=2,
        )


def tissue_pixels(rgb: NDArray[np.uint8], mpp: float, white: Colour | None = None) -> NDArray[np.bool_]:
    """Separate tissue from glass, ink and black at full resolution, as in a tile (h, w, 3): bool (h, w).

    The decision is made at about 1 µm/px and smoothed over 3 µm. So the pale inside of a nucleus and the
    noise of the glass do not count. Specks below 20 µm² are removed and holes below 50 µm² are filled; lumina
    and vessels remain.

    `white` is the colour of the bare glass, `TissueMask.white`. By default it is estimated from the brightest
    2 % of the pixels. In a tile without glass this can mistake pale mucus for glass.
    """
    factor = max(1, round(1.0 / mpp))
    small = _shrink(rgb, factor)
    smooth = ndimage.uniform_filter(small, (3, 3, 0), mode="nearest")
    dark = density(smooth, white or brightest(smooth))
    tissue = _stained(dark) & ~_ink(dark, mpp * factor) & ~_black(dark)
    tissue = _clean(tissue, 20.0, 50.0, mpp * factor)
    height, width = rgb.shape[:2]
    return tissue.repeat(factor, 0).repeat(factor, 1)[:height, :width]


def low_power(slide: Slide, mpp: float) -> NDArray[np.uint8]:
    """Read a whole slide at a coarse resolution, block by block, uint8 (h, w, 3).

    A `SlideError` tells that the slide is larger than any glass slide, or damaged.
    """
    width, height = (int(np.ceil(side * slide.info.mpp / mpp)) for side in slide.info.size_px)
    if width * height > MOST_LOW_POWER_PX:
        size = "×".join(f"{side * slide.info.mpp / 1000:,.0f}" for side in slide.info.size_px)
        raise SlideError(
            f"measures {size} mm, more than any glass slide: it is damaged, or its resolution (mpp) is wrong",
            where=slide.info.path,
            remedy="copy or export it again, or correct its resolution: `dirl tile --mpp-override UM`",
        )
    image = np.empty((height, width, 3), np.uint8)
    scale = mpp / slide.info.mpp
    step = scale / slide.info.level_downsamples[level_for(slide.info, mpp)]
    block = max(1, min(BLOCK_PX, int(READ_PX / step)))
    for y in range(0, height, block):
        for x in range(0, width, block):
            h, w = min(block, height - y), min(block, width - x)
            image[y : y + h, x : x + w] = read_box(
                slide, x * scale, y * scale, w, h, mpp, allow_upsample=True
            )
    return image


def _stained(dark: NDArray[np.float32]) -> NDArray[np.bool_]:
    red, green, blue = np.moveaxis(dark, -1, 0)
    return np.asarray((green > MIN_TISSUE_OD) & (green - np.minimum(red, blue) > MIN_STAIN_OD))


def _black(dark: NDArray[np.float32]) -> NDArray[np.bool_]:
    # Hematoxylin is never grey: at any density it absorbs much more green than blue.
    least = dark.min(-1)
    return np.asarray((least > BLACK_OD) | ((least > DARK_OD) & (dark.max(-1) - least < GREY_OD)))


def _ink(dark: NDArray[np.float32], mpp: float) -> NDArray[np.bool_]:
    """Pen marks: strong colours that hematoxylin and eosin cannot mix, with the pale rim around them."""
    red, green, blue = np.moveaxis(dark, -1, 0)
    # Blue and green pens absorb red most; dense ones do so over tissue, too. Red pens absorb blue nearly as
    # much as green, and no red. Strong hematoxylin may absorb more red than green. But it absorbs more blue
    # than a blue pen, and far more green than a green one.
    pen = (blue < 0.35 * red) | (green < 0.6 * red)
    strong = pen & (red > 0.3) & (red > 1.3 * green)
    strong |= (blue < 0.3 * red) & (red > 0.9) & (red > 1.07 * green)
    strong |= (green > 1.5) & (blue > 0.7 * green) & (red < 0.25 * green)
    strong = _without_small(strong, INK_UM2, mpp)
    if not strong.any():
        return np.zeros(strong.shape, bool)
    weak = strong | ((red > 0.06) & (red > green)) | ((blue > 0.75 * green) & (red < 0.4 * green))
    marks = ndimage.binary_propagation(strong, mask=weak)
    return np.asarray(ndimage.distance_transform_edt(~marks) <= INK_RIM_UM / mpp)


def _clean(mask: NDArray[np.bool_], speck_um2: float, hole_um2: float, mpp: float) -> NDArray[np.bool_]:
    return ~_without_small(~_without_small(mask, speck_um2, mpp), hole_um2, mpp)


def _without_small(mask: NDArray[np.bool_], most_um2: float, mpp: float) -> NDArray[np.bool_]:
    """Drop connected parts up to an area. The argument of scikit-image's function was renamed."""
    parts, _ = ndimage.label(mask)
    keep = np.bincount(parts.ravel()) > int(most_um2 / mpp**2)
    keep[0] = False
    return np.asarray(keep[parts])


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
