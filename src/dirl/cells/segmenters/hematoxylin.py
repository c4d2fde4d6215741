"""The built-in segmenter: nuclei of H&E without trained weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from dirl.cells.base import Finder, Image, NucleiMask
from dirl.cells.segmenters.morphology import (
    Labels,
    Map,
    Mask,
    closing,
    connected,
    depth,
    odd,
    opening,
    running,
    smaller,
)
from dirl.cells.segmenters.outlines import Outlining, outline
from dirl.cells.segmenters.resample import to_mpp, to_shape
from dirl.cells.segmenters.shapes import ellipses, neighbourhood_mean, solidity
from dirl.core.digests import digest
from dirl.core.errors import ConfigError

OPTICAL_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
# Optical density of the intensity 40 of 255.
BLACK = OPTICAL_DENSITY[40]
NOTHING = np.empty((2, 0), np.float32)
# Limits of settings that are no width or area.
LIMITS = {
    "mpp": (0.05, 20.0),
    "threshold": (0.0, 1.5),
    "threshold_follows": (0.0, 1.0),
    "faintest": (0.0, 1.5),
    "darkest": (0.5, 10.0),
    "darkness": (0.0, 5.0),
    "contrast": (0.0, 1.0),
    "hue": (0.0, 1.0),
    "ink": (1.0, 10.0),
    "solid": (0.0, 1.0),
    "solid_per_mpp": (0.0, 1.0),
}
# With fewer pixels of tissue the stain is not measured.
FEW_PX = 200
# Number and solidity of usual nuclei that are added to every neighbourhood.
FEW_NUCLEI, USUAL_SOLIDITY = 3, 0.935


@dataclass(frozen=True)
class Stain:
    """The stain of a slide.

    Attributes
    ----------
    eosin
        Red over green optical density of pure eosin.
    background
        Mean hematoxylin of the tissue below and above its Otsu threshold, in units of optical density.
    hue
        Red over green optical density of the tissue above that threshold.
    """

    eosin: float = 0.25
    background: float = 0.1
    nuclei: float = 0.4
    hue: float = 0.75


@dataclass(frozen=True)
class Hematoxylin:
    """Finds objects that have more hematoxylin than their neighbourhood, and are round.

    1. Hematoxylin is the red optical density minus the part of eosin, which is a share of the green. This is
       a stain deconvolution with one unknown. The unknown, and the mean hematoxylin of nuclei (1) and
       background (0), are measured on the whole slide's tissue.
    2. A pixel may belong to a nucleus if it exceeds a threshold, which largely follows the local mean. So
       pale nuclei are found among pale ones, and dark cytoplasm is not a nucleus.
    3. A watershed on the distance to the mask's border separates nuclei that touch.
    4. Each outline is refined by the nucleus's contrast and shape (`dirl.cells.segmenters.outlines`).
    5. A nucleus is dropped if its contrast is too low for its size, hue and roundness. It is also dropped if
       it is too red or too green for this slide.
    6. A neighbourhood is dropped if its nuclei are ragged. Flakes and folds of keratin are ragged, nuclei
       are not.

    All sizes are in µm, so it works at any mpp. Windows finer than `mpp` are shrunk to it.

    The defaults were tuned on 13 images of MoNuSeg at 0.5 µm/px. `benchmarks/segmenter.py` scores them, also
    leaving out one image at a time. These scores may not hold for other tissue. Known errors: some folds,
    debris and keratin are found as nuclei, crowded flat nuclei are missed, pale vesicular ones are split. At
    1 µm/px and coarser it finds clumps and the walls of goblet cells.

    Parameters
    ----------
    mpp
        µm/px of the windows; finer ones are shrunk.
    closing_um
        Width of the gaps in the chromatin that are closed, and of the threads that are removed.
    around_um
        Width of the box of the local mean.
    threshold, threshold_follows
        Hematoxylin that a nucleus exceeds, and the share in which the local mean replaces it.
    hole_um2
        Largest hole in a nucleus. A larger value would fill the lumen of small glands.
    least_um2
        Smallest area of a nucleus.
    faintest
        Lower limit of the threshold.
    darkest
        Upper limit of hematoxylin.
    deep_um, darkness, even_um
        Clumps are separated by the distance to the mask's border, up to `deep_um`, plus the hematoxylin,
        `darkness` px for the level of a nucleus. Both are smoothed with the standard deviation `even_um`.
    apart_um
        Least distance between the centres of two nuclei.
    contrast
        Least difference in hematoxylin between nuclei and background. It keeps the threshold above the noise
        on a slide without nuclei.
    hue, ink
        Range of a nucleus's red over green optical density, relative to that of the slide's nuclei. Below it
        is keratin, above it ink.
    evident_um
        Least evidence of a nucleus. This is contrast times the square root of area, times the squared share
        of its ellipse that it fills, times hue. So a small nucleus needs more contrast.
    near_um, solid, solid_per_mpp
        Least mean share of their convex hulls that the nuclei within `near_um` fill. It is `solid` minus
        `solid_per_mpp` for each µm/px, since pixels make small outlines ragged.
    outlining
        Settings of the refined outlines.
    """

    mpp: float = 0.5
    closing_um: float = 1.5
    around_um: float = 9.2
    threshold: float = 0.42
    threshold_follows: float = 0.8
    hole_um2: float = 30.0
    least_um2: float = 8.5
    faintest: float = 0.2
    darkest: float = 2.5
    deep_um: float = 6.0
    darkness: float = 0.15
    even_um: float = 0.8
    apart_um: float = 2.25
    contrast: float = 0.12
    hue: float = 0.8
    ink: float = 1.3
    evident_um: float = 1.6
    near_um: float = 25.0
    solid: float = 0.915
    solid_per_mpp: float = 0.07
    outlining: Outlining = field(default_factory=Outlining)

    def __post_init__(self) -> None:
        """Refuse settings with which nothing sensible is found."""
        for name, value in vars(self).items():
            if name == "outlining":
                continue
            low, high = LIMITS.get(name, (0.0, 1000.0))  # widths in µm and areas in µm²
            if (
                not isinstance(value, int | float)
                or not low <= value <= high
                or (name == "mpp" and not value)
            ):
                raise ConfigError(
                    f"{name}={value} is not between {low:g} and {high:g}",
                    where="segmenter hematoxylin",
                    remedy="see the table in docs/howto/cells.md",
                )

    @property
    def digest(self) -> str:
        """Digest of the settings."""
        return digest({"segmenter": "hematoxylin", "version": 4, **asdict(self)})

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Measure the stain on samples of a slide; see `Segmenter.fit`."""
        return partial(self._find, stain=self.stain(samples, mpp), mpp=mpp, digest=self.digest)

    def stain(self, samples: Sequence[Image], mpp: float) -> Stain:
        """Measure the stain on the tissue of samples (h, w, 3); without tissue return a typical stain."""
        red, green = np.concatenate([self._tissue(sample, mpp) for sample in samples] or [NOTHING], axis=1)
        if len(red) < FEW_PX:
            return Stain()
        # Tissue with mostly eosin lies at the low end. A lower percentile would show red blood cells.
        eosin = float(np.clip(0.8 * np.percentile(red / green, 20), 0.1, 0.5))
        levels = red - np.float32(eosin) * green
        otsu = np.inf
        if np.ptp(levels) > 0:
            otsu = float(threshold_otsu(levels))  # type: ignore[no-untyped-call]
        background = float(levels[levels <= otsu].mean())
        nuclei = float(levels[levels > otsu].mean()) if np.isfinite(otsu) else background
        dark = levels > min(otsu, float(levels.max()) - 1e-6)
        hue = float(red[dark].mean() / green[dark].mean())
        return Stain(eosin, background, max(nuclei, background + self.contrast), hue)

    def _tissue(self, rgb: Image, mpp: float) -> Map:
        """Optical densities (2, pixels), red and green, without glass and foreign pixels."""
        rgb = self._shrunk(rgb, mpp)
        density = _densities(rgb)
        return density[:2, (density[1] > 0.15) & ~_foreign(rgb, density)]

    def _find(self, windows: Sequence[Image], *, stain: Stain, mpp: float, digest: str) -> list[NucleiMask]:
        found = []
        for window in windows:
            labels = self._segment(self._shrunk(window, mpp), stain, max(mpp, self.mpp))
            found.append(NucleiMask(to_shape(labels, window.shape[:2]), None, (), mpp, digest))
        return found

    def _shrunk(self, rgb: Image, mpp: float) -> Image:
        return to_mpp(rgb, mpp, max(mpp, self.mpp))

    def _segment(self, rgb: Image, stain: Stain, mpp: float) -> Labels:
        density = _densities(rgb)
        red, green, _ = density
        level = red - np.float32(stain.eosin) * green
        level = (level - np.float32(stain.background)) / np.float32(stain.nuclei - stain.background)
        # Very dark nuclei would raise the threshold of their neighbours.
        level = level.clip(-1, self.darkest, dtype=np.float32)
        even = (level + closing(level, odd(self.closing_um / mpp))) / 2
        box = odd(self.around_um / mpp)
        around = ndimage.uniform_filter(level, box)
        follows = self.threshold_follows
        threshold = (1 - follows) * self.threshold + follows * (around + np.float32(0.04))
        allowed = ~_foreign(rgb, density)
        mask = (even > np.maximum(threshold, np.float32(self.faintest))) & allowed
        mask |= smaller(~mask, self.hole_um2 / mpp**2)
        mask = opening(mask, odd(self.closing_um / mpp))

        labels = self._separated(mask, level, mpp)
        outlined, contrast = outline(
            labels, level, even, allowed, self.hole_um2 / mpp**2, self.outlining, mpp
        )
        keep = self._evident(outlined, contrast, red, green, stain, mpp)
        return np.asarray((np.cumsum(keep) * keep).astype(np.int32).take(outlined))

    def _evident(
        self, labels: Labels, contrast: NDArray[np.float64], red: Map, green: Map, stain: Stain, mpp: float
    ) -> NDArray[np.bool_]:
        """Return a mask of the ids of labels (h, w) that are nuclei; 0 is background."""
        at = np.flatnonzero(labels)
        number = labels.ravel()[at]
        y, x = (axis.astype(np.float64) for axis in np.divmod(at, labels.shape[1]))
        count = len(contrast) - 1
        pixels, red_sum, green_sum = (
            np.bincount(number, weights, count + 1) for weights in (None, red.ravel()[at], green.ravel()[at])
        )
        hue = red_sum / np.maximum(green_sum, 1e-6) / stain.hue
        shape = ellipses(number, x, y, count)
        fill = pixels / shape.area_px
        evidence = contrast * np.sqrt(pixels * mpp**2) * fill**2 * hue
        # Keratin can be as dark as a nucleus, but its hue is lower; that of ink is higher.
        usual = (hue > self.hue) & (hue < self.ink)
        found = usual & (pixels >= self.least_um2 / mpp**2) & (evidence > self.evident_um)
        centres = np.stack([shape.x, shape.y], axis=1)[found] * mpp
        solid = solidity(number, x, y, count)[found]
        # With the square root, large ragged pieces weigh more, and no single one decides.
        near = neighbourhood_mean(
            solid, np.sqrt(pixels[found]), centres, self.near_um, USUAL_SOLIDITY, FEW_NUCLEI
        )
        found[found] = near > self.solid - self.solid_per_mpp * mpp
        return np.asarray(found)

    def _separated(self, mask: Mask, level: Map, mpp: float) -> Labels:
        """Number the nuclei of a mask (h, w), and separate those that touch."""
        height = depth(mask, round(self.deep_um / mpp)) + np.float32(self.darkness) * level * mask
        height = ndimage.gaussian_filter(height, self.even_um / mpp, truncate=3)
        peaks = mask & (height == running(np.maximum, height, odd(2 * self.apart_um / mpp)))
        seeds = connected(peaks, 2)
        # Most parts of the mask have one peak, and so are one nucleus without a watershed.
        parts = connected(mask, 1)
        at = np.flatnonzero(peaks)
        part, seed = parts.ravel()[at], seeds.ravel()[at]
        first, last = np.full(parts.max() + 1, len(at) + 1), np.zeros(parts.max() + 1, np.int32)
        np.minimum.at(first, part, seed)
        np.maximum.at(last, part, seed)
        several = (first < last).take(parts)
        labels = np.where(first < last, 0, last).astype(np.int32).take(parts)
        labels += watershed(-height, seeds * several, mask=several)  # type: ignore[no-untyped-call]
        return labels


def _densities(rgb: Image) -> Map:
    """Optical densities (3, h, w)."""
    return np.asarray(OPTICAL_DENSITY.take(np.moveaxis(rgb, -1, 0)))


def _foreign(rgb: Image, density: Map) -> Mask:
    """Pixels of ink, blood and black borders.

    Blue and green ink absorb more red than green, which no mixture of hematoxylin and eosin does. Blood
    absorbs nearly as much blue as green, and little red. Black absorbs everything.
    """
    red, green, blue = density
    ink = red > np.float32(1.25) * green + np.float32(0.2)
    blood = (blue > np.float32(0.75) * green) & (red < np.float32(0.5) * green) & (green > 0.5)
    black = density.min(0) > BLACK
    # The darkest nuclei are nearly black too, but they are blue.
    black &= rgb[..., 2] < rgb[..., 1] + np.uint8(8)
    return np.asarray(ink | blood | black)
