"""The colour of a slide's bare glass, under any lamp, camera and white balance."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Colour = tuple[float, float, float]
WHITE: Colour = (255.0, 255.0, 255.0)

LEAST_SHARE = 0.01  # least share of the image that is bare glass
# Glass is even and tissue is not: over 24 µm the density of glass varies by less than this in every channel.
EVEN_OD = 0.04
SAME_OD = 0.05
# Bare glass passes most light. Bubbles and reflections are brighter, but smaller.
BRIGHTER_OD = 0.06
# Eosin absorbs more green than red and blue. Glass may be pink, too: the pinker, the more of it is needed.
MOST_PINK_OD = 0.1
# Glass is never this dark while the lamp is on; scanners also fill with black.
UNLIT = 16
FILLED = 254  # scanners fill areas that they did not scan with pure white
USUAL_GLASS = 243.0
# Glass that need not be even: least value of each channel, and largest difference between channels.
MIN_GLASS, MOST_TINT = 210, 20


def glass_colour(rgb: NDArray[np.uint8]) -> Colour:
    """Find the colour of the bare glass of a slide (h, w, 3) at low power, about 8 µm/px: red, green, blue.

    It is the brightest colour that evenly covers some part of the image. Yellow, blue and dim glass count as
    well as white. If nothing is even, it is the median of the bright grey pixels. Pure white and black do not
    count: scanners fill areas that they did not scan with them. Without glass it is `WHITE`.
    """
    filled = _filled(rgb)
    return _even(rgb, filled) or _grey(rgb, filled) or WHITE


def tinted_glass(rgb: NDArray[np.uint8]) -> Colour | None:
    """Colour of glass that is even and neither bright nor grey, as `glass_colour` finds it; else None."""
    colour = _even(rgb, _filled(rgb))
    return colour if colour is not None and is_tinted(colour) else None


def is_tinted(white: Colour) -> bool:
    """Whether glass is dim or coloured."""
    return min(white) < MIN_GLASS or max(white) - min(white) > MOST_TINT


def white_balanced(rgb: NDArray[np.uint8], white: Colour) -> NDArray[np.uint8]:
    """White-balance pixels (h, w, 3): glass of the colour `white` gets the usual brightness."""
    scaled = np.arange(256)[:, None] * (USUAL_GLASS / np.maximum(white, 1))
    table = np.minimum(scaled + 0.5, 255).astype(np.uint8)
    return np.stack([table[rgb[..., channel], channel] for channel in range(3)], axis=-1)


def brightest(rgb: NDArray[np.float32]) -> Colour:
    """Colour of the brightest 2 % of a tile's pixels if it can be glass, else `WHITE`."""
    green = rgb[..., 1]
    colour = _median(rgb[green >= np.quantile(green, 0.98)])
    return colour if colour[1] >= MIN_GLASS else WHITE


def density(rgb: NDArray[np.generic], white: Colour) -> NDArray[np.float32]:
    """Optical density (natural logarithm) over glass of the colour `white`; 0 for brighter pixels."""
    ratio = (rgb.astype(np.float32) + 1) / (np.asarray(white, np.float32) + 1)
    return np.asarray(-np.log(np.minimum(ratio, 1)), np.float32)


def _filled(rgb: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.asarray((rgb.min(-1) >= FILLED) | (rgb.max(-1) <= UNLIT))


def _even(rgb: NDArray[np.uint8], filled: NDArray[np.bool_]) -> Colour | None:
    """The brightest even colour, if it can be glass."""
    dark = density(rgb, WHITE)
    spread = ndimage.maximum_filter(dark, (3, 3, 1)) - ndimage.minimum_filter(dark, (3, 3, 1))
    even = (spread.max(-1) < EVEN_OD) & ~filled
    if even.mean() < LEAST_SHARE:
        return None
    peak = _brightest_peak(dark[even], LEAST_SHARE * even.size)
    near = even & (np.abs(dark - peak) < SAME_OD).all(-1)
    share = near.mean()
    if share < LEAST_SHARE:
        return None
    red, green, blue = np.median(dark[near], axis=0)
    brighter = (dark[..., 1] < green - BRIGHTER_OD) & ~filled
    pink = green - max(red, blue)
    if brighter.mean() > share or pink > min(share, MOST_PINK_OD):
        return None
    return _median(rgb[near])


def _brightest_peak(dark: NDArray[np.float32], least: float) -> NDArray[np.float32]:
    """The brightest peak of the densities (n, 3) with at least `least` of them and a tenth of the highest."""
    step = np.floor(dark.sum(-1) / SAME_OD).astype(int)
    count = np.convolve(np.bincount(step), (1, 1, 1), "same")
    higher = np.maximum(np.append(0, count[:-1]), np.append(count[1:], 0))
    peaks = np.flatnonzero((count >= higher) & (count >= max(least, 0.1 * count.max())))
    peak = peaks[0] if len(peaks) else np.argmax(count)
    return np.asarray(np.median(dark[np.abs(step - peak) <= 1], axis=0))


def _grey(rgb: NDArray[np.uint8], filled: NDArray[np.bool_]) -> Colour | None:
    bright = (rgb.min(-1) >= MIN_GLASS) & ~filled & (np.ptp(rgb, axis=-1) <= MOST_TINT)
    return _median(rgb[bright]) if bright.mean() >= LEAST_SHARE else None


def _median(colours: NDArray[np.uint8] | NDArray[np.float32]) -> Colour:
    red, green, blue = np.median(colours, axis=0)
    return float(red), float(green), float(blue)
