"""The embedded segmenter: nuclei of H&E without any trained weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from dirl.cells.base import Finder, Image, NucleiMask
from dirl.cells.segmenters.ellipses import ellipses
from dirl.cells.segmenters.morphology import (
    Labels,
    Map,
    Mask,
    closed,
    connected,
    depth,
    odd,
    opened,
    running,
    smaller,
)
from dirl.cells.segmenters.outlines import Outlining, outline
from dirl.cells.segmenters.resample import to_mpp, to_shape
from dirl.cells.segmenters.solidity import around, solidity
from dirl.core.provenance import digest

OPTICAL_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
# Darker than 40 of 255.
BLACK = OPTICAL_DENSITY[40]
NOTHING = np.empty((2, 0), np.float32)
# Fewer pixels of tissue than this say nothing about a slide's stain.
FEW_PX = 200
# A neighbourhood counts as so many nuclei of usual solidity beside those that are there.
FEW_NUCLEI, USUAL_SOLIDITY = 3, 0.935


@dataclass(frozen=True)
class Stain:
    """What is constant over a slide.

    Attributes
    ----------
    eosin
        Red over green optical density of what eosin alone has stained.
    background, nuclei
        Mean hematoxylin of the tissue below and above its Otsu threshold, in units of optical density.
    hue
        Red over green optical density of the tissue above it.
    """

    eosin: float = 0.25
    background: float = 0.1
    nuclei: float = 0.4
    hue: float = 0.75


@dataclass(frozen=True)
class Hematoxylin:
    """Nuclei are what is more blue than eosin explains, darker than its neighbourhood, and round.

    1. Hematoxylin is the red optical density less the share of it that eosin explains, which follows from
       the green: a stain deconvolution with one unknown. That unknown, and the mean hematoxylin of nuclei
       (1) and background (0), come from the whole slide's tissue.
    2. A pixel may belong to a nucleus when it exceeds a threshold that follows the local mean most of the
       way: pale nuclei are found among pale ones, and dark cytoplasm is not a nucleus.
    3. Nuclei that touch are parted by a watershed on the distance to the mask's border.
    4. Each is outlined anew by its own contrast and shape (`dirl.cells.segmenters.outlines`).
    5. It is dropped where it has too little contrast for its size, hue and roundness, or is too red or too
       green for a nucleus of this slide.
    6. Where those that are left are ragged, as flakes and folds of keratin are and nuclei are not, all of the
       neighbourhood is dropped.

    All sizes are in µm, so that it works at any mpp; windows finer than `mpp` are shrunk to it.

    The defaults were tuned on 13 images of MoNuSeg at 0.5 µm/px (`benchmarks/segmenter.py` scores them, left
    out one by one too): what they score there says nothing certain about other tissue. It takes some folds,
    debris and keratin for nuclei, misses crowded flat nuclei, breaks up pale vesicular ones, and at 1 µm/px
    and coarser finds clumps and the walls of goblet cells.

    Parameters
    ----------
    mpp
        µm/px that windows are shrunk to.
    closing_um
        Width of the gaps in the chromatin that are closed, and of the threads that are cut.
    around_um
        Width of the box that gives the local mean.
    threshold, threshold_follows
        Hematoxylin that a nucleus exceeds, and the share in which the local mean takes its place.
    hole_um2
        Largest hole in a nucleus. More would fill the lumen of small glands.
    least_um2
        Smallest nucleus.
    faintest
        Least threshold, wherever the local mean would lead.
    darkest
        Hematoxylin beyond which darker nuclei count as this dark.
    deep_um, darkness, even_um
        Clumps are parted by the distance to the mask's border up to `deep_um`, and beyond by hematoxylin,
        `darkness` px for the level of a nucleus; smoothed with the standard deviation `even_um`.
    apart_um
        Least distance between the centres of two nuclei.
    contrast
        Least difference in hematoxylin between nuclei and background: on a slide without nuclei it keeps
        the threshold off the noise.
    hue, ink
        Red over green optical density of a nucleus, by that of the slide's nuclei: what is below the one is
        keratin, what is above the other touched by ink.
    evident_um
        Least evidence of a nucleus: contrast times square root of area, since a small one needs more contrast
        than a large one; by how far it fills its ellipse, squared; by its hue.
    near_um, solid, solid_per_mpp
        Within `near_um` of a nucleus, nuclei fill on average at least so much of their convex hulls: `solid`,
        less `solid_per_mpp` for each µm/px, since pixels make small outlines ragged.
    outlining
        How nuclei are outlined one by one.
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

    @property
    def digest(self) -> str:
        """Digest of the settings."""
        return digest({"segmenter": "hematoxylin", "version": 4, **asdict(self)})

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Measure the stain on samples of a slide; see `Segmenter.fit`."""
        return partial(self._find, stain=self.stain(samples, mpp), mpp=mpp, digest=self.digest)

    def stain(self, samples: Sequence[Image], mpp: float) -> Stain:
        """Measure the stain on the tissue of samples (h, w, 3); a typical one where there is none."""
        red, green = np.concatenate([self._tissue(sample, mpp) for sample in samples] or [NOTHING], axis=1)
        if len(red) < FEW_PX:
            return Stain()
        # Tissue that is mostly eosin lies at the low end; a lower percentile would be a few red blood cells.
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
        """Optical densities (2, pixels), red and green, of what is neither glass nor foreign."""
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
        even = (level + closed(level, odd(self.closing_um / mpp))) / 2
        box = odd(self.around_um / mpp)
        around = ndimage.uniform_filter(level, box)
        follows = self.threshold_follows
        threshold = (1 - follows) * self.threshold + follows * (around + np.float32(0.04))
        allowed = ~_foreign(rgb, density)
        mask = (even > np.maximum(threshold, np.float32(self.faintest))) & allowed
        mask |= smaller(~mask, self.hole_um2 / mpp**2)
        mask = opened(mask, odd(self.closing_um / mpp))

        labels = self._parted(mask, level, mpp)
        outlined, contrast = outline(
            labels, level, even, allowed, self.hole_um2 / mpp**2, self.outlining, mpp
        )
        keep = self._evident(outlined, contrast, red, green, stain, mpp)
        return np.asarray((np.cumsum(keep) * keep).astype(np.int32).take(outlined))

    def _evident(
        self, labels: Labels, contrast: NDArray[np.float64], red: Map, green: Map, stain: Stain, mpp: float
    ) -> NDArray[np.bool_]:
        """Say which numbers of labels (h, w) are nuclei; 0 is none."""
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
        # Keratin may be as dark as a nucleus, but is more red, and what ink has touched is less so.
        usual = (hue > self.hue) & (hue < self.ink)
        found = usual & (pixels >= self.least_um2 / mpp**2) & (evidence > self.evident_um)
        centres = np.stack([shape.x, shape.y], axis=1)[found] * mpp
        solid = solidity(number, x, y, count)[found]
        # By square root, large ragged pieces weigh more, and no single one decides.
        near = around(solid, np.sqrt(pixels[found]), centres, self.near_um, USUAL_SOLIDITY, FEW_NUCLEI)
        found[found] = near > self.solid - self.solid_per_mpp * mpp
        return np.asarray(found)

    def _parted(self, mask: Mask, level: Map, mpp: float) -> Labels:
        """Number the nuclei of a mask (h, w), those that touch each by itself."""
        height = depth(mask, round(self.deep_um / mpp)) + np.float32(self.darkness) * level * mask
        height = ndimage.gaussian_filter(height, self.even_um / mpp, truncate=3)
        peaks = mask & (height == running(np.maximum, height, odd(2 * self.apart_um / mpp)))
        seeds = connected(peaks, 2)
        # Most parts of the mask have one peak, and are one nucleus without a watershed.
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

    Blue and green ink absorb more red than green, which no mixture of hematoxylin and eosin does; blood
    absorbs nearly as much blue as green and little red; black absorbs everything.
    """
    red, green, blue = density
    ink = red > np.float32(1.25) * green + np.float32(0.2)
    blood = (blue > np.float32(0.75) * green) & (red < np.float32(0.5) * green) & (green > 0.5)
    black = density.min(0) > BLACK
    # The darkest nuclei are nearly black too, but even they are blue.
    black &= rgb[..., 2] < rgb[..., 1] + np.uint8(8)
    return np.asarray(ink | blood | black)
