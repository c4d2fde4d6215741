"""The embedded segmenter: nuclei of H&E without any trained weights."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.segmentation import watershed

from dirl.card import digest
from dirl.cells.morphology import (
    Labels,
    Map,
    Mask,
    closed,
    depth,
    largest_parts,
    odd,
    opened,
    running,
    smaller,
)
from dirl.cells.nuclei import Finder, Image, NucleiMask
from dirl.cells.outlines import Outlining, outline

OPTICAL_DENSITY = -np.log((np.arange(256, dtype=np.float32) + 1) / 256)
# Fewer pixels of tissue than this say nothing about a slide's stain.
FEW_PX = 200


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
    4. Each is outlined anew by its own contrast and shape, and dropped where it has too little contrast for
       its size (`dirl.cells.outlines`), or is too red for a nucleus of this slide.

    All sizes are in µm, so that it works at any mpp; windows finer than `mpp` are shrunk to it.

    The defaults were tuned on 13 images of MoNuSeg at 0.5 µm/px (`benchmarks/segmenter.py` scores them, left
    out one by one too): what they score there says nothing certain about other tissue. It takes folds, debris
    and the darkest keratin for nuclei, breaks up pale vesicular ones, and at 1 µm/px and coarser finds clumps
    and the walls of goblet cells.

    Parameters
    ----------
    mpp
        µm/px that windows are shrunk to.
    blur_um
        Standard deviation of the first smoothing.
    closing_um
        Width of the gaps in the chromatin that are closed, and of the threads that are cut.
    around_um
        Width of the box, passed twice, that gives the local mean.
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
    hue
        Least red over green optical density of a nucleus, by that of the slide's nuclei.
    outlining
        How nuclei are outlined one by one, and which are dropped.
    """

    mpp: float = 0.5
    blur_um: float = 0.15
    closing_um: float = 1.5
    around_um: float = 6.2
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
    outlining: Outlining = field(default_factory=Outlining)

    @property
    def digest(self) -> str:
        """Digest of the settings."""
        return digest({"segmenter": "hematoxylin", "version": 2, **asdict(self)})

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Measure the stain on samples of a slide; see `Segmenter.fit`."""
        return partial(self._find, stain=self.stain(samples, mpp), mpp=mpp)

    def stain(self, samples: Sequence[Image], mpp: float) -> Stain:
        """Measure the stain on the tissue of samples (h, w, 3); a typical one where there is none."""
        shrunk = [self._shrink(sample, mpp) for sample in samples]
        pixels = [_tissue(rgb) for rgb in shrunk]
        red, green = (
            np.concatenate([OPTICAL_DENSITY[rgb[..., c]][m] for rgb, m in zip(shrunk, pixels, strict=True)])
            if shrunk
            else np.empty(0, np.float32)
            for c in (0, 1)
        )
        if len(red) < FEW_PX:
            return Stain()
        # Tissue that is mostly eosin lies at the low end; a lower percentile would be a few red blood cells.
        eosin = float(np.clip(0.8 * np.percentile(red / green, 20), 0.1, 0.5))
        levels = np.concatenate(
            [self._density(rgb, eosin, max(mpp, self.mpp))[m] for rgb, m in zip(shrunk, pixels, strict=True)]
        )
        otsu = np.inf
        if np.ptp(levels) > 0:
            otsu = float(threshold_otsu(levels))  # type: ignore[no-untyped-call]
        background = float(levels[levels <= otsu].mean())
        nuclei = float(levels[levels > otsu].mean()) if np.isfinite(otsu) else background
        dark = levels > min(otsu, float(levels.max()) - 1e-6)
        hue = float(red[dark].mean() / green[dark].mean())
        return Stain(eosin, background, max(nuclei, background + self.contrast), hue)

    def _find(self, windows: Sequence[Image], *, stain: Stain, mpp: float) -> list[NucleiMask]:
        return [
            NucleiMask(self._labels(window, stain, mpp), None, (), mpp, self.digest) for window in windows
        ]

    def _labels(self, rgb: Image, stain: Stain, mpp: float) -> NDArray[np.int32]:
        height, width = rgb.shape[:2]
        small = self._shrink(rgb, mpp)
        labels = self._segment(small, stain, max(mpp, self.mpp))
        if small is not rgb:
            rows = (np.arange(height) * labels.shape[0] + labels.shape[0] // 2) // height
            columns = (np.arange(width) * labels.shape[1] + labels.shape[1] // 2) // width
            labels = labels[rows.clip(0, labels.shape[0] - 1)[:, None], columns.clip(0, labels.shape[1] - 1)]
        return labels

    def _shrink(self, rgb: Image, mpp: float) -> Image:
        # Within a tenth sizes in µm are right as they are.
        if mpp > 0.9 * self.mpp:
            return rgb
        height, width = (max(1, round(side * mpp / self.mpp)) for side in rgb.shape[:2])
        return np.asarray(Pillow.fromarray(rgb).resize((width, height), Pillow.Resampling.BOX))

    def _density(self, rgb: Image, eosin: float, mpp: float) -> Map:
        """Hematoxylin (h, w), smoothed, in units of optical density."""
        density = OPTICAL_DENSITY[rgb[..., 0]] - np.float32(eosin) * OPTICAL_DENSITY[rgb[..., 1]]
        return np.asarray(ndimage.gaussian_filter(density, self.blur_um / mpp, truncate=3))

    def _segment(self, rgb: Image, stain: Stain, mpp: float) -> Labels:
        level = (self._density(rgb, stain.eosin, mpp) - stain.background) / (stain.nuclei - stain.background)
        # Very dark nuclei would raise the threshold of their neighbours.
        level = level.clip(-1, self.darkest, dtype=np.float32)
        even = (level + closed(level, odd(self.closing_um / mpp))) / 2
        box = odd(self.around_um / mpp)
        around = ndimage.uniform_filter(ndimage.uniform_filter(level, box), box)
        follows = self.threshold_follows
        threshold = (1 - follows) * self.threshold + follows * (around + np.float32(0.04))
        allowed = ~_foreign(rgb)
        mask = (even > np.maximum(threshold, np.float32(self.faintest))) & allowed
        mask |= smaller(~mask, self.hole_um2 / mpp**2)
        mask = opened(mask, odd(self.closing_um / mpp))

        labels = self._parted(mask, level, mpp)
        labels = outline(labels, level, even, allowed, self.hole_um2 / mpp**2, self.outlining, mpp)
        labels = largest_parts(labels)
        keep = np.bincount(labels.ravel()) >= self.least_um2 / mpp**2
        # Keratin may be as dark as a nucleus, but is more red.
        at = np.flatnonzero(labels)
        number = labels.ravel()[at]
        red, green = (
            np.bincount(number, OPTICAL_DENSITY[rgb[..., c].ravel()[at]], len(keep)) for c in (0, 1)
        )
        keep &= red > self.hue * stain.hue * green
        keep[0] = False
        return np.asarray((np.cumsum(keep) * keep).astype(np.int32)[labels])

    def _parted(self, mask: Mask, level: Map, mpp: float) -> Labels:
        """Number the nuclei of a mask (h, w), those that touch each by itself."""
        height = depth(mask, round(self.deep_um / mpp)) + np.float32(self.darkness) * level * mask
        height = ndimage.gaussian_filter(height, self.even_um / mpp, truncate=3)
        peaks = mask & (height == running(np.maximum, height, odd(2 * self.apart_um / mpp)))
        seeds, _ = ndimage.label(peaks, np.ones((3, 3)))
        return np.asarray(watershed(-height, seeds, mask=mask), np.int32)  # type: ignore[no-untyped-call]


def _tissue(rgb: Image) -> Mask:
    """Pixels that hold stain: neither glass nor what is foreign."""
    return np.asarray((OPTICAL_DENSITY[rgb[..., 1]] > 0.15) & ~_foreign(rgb))


def _foreign(rgb: Image) -> Mask:
    """Pixels of ink, blood and black borders.

    Blue and green ink absorb more red than green, which no mixture of hematoxylin and eosin does; blood
    absorbs nearly as much blue as green and little red; black absorbs everything.
    """
    red, green, blue = (OPTICAL_DENSITY[rgb[..., c]] for c in range(3))
    ink = red > np.float32(1.25) * green + np.float32(0.2)
    blood = (blue > np.float32(0.75) * green) & (red < np.float32(0.5) * green) & (green > 0.5)
    # The darkest nuclei are nearly black too, but even they are blue.
    lightest = np.maximum(np.maximum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    black = (lightest < 40) & (rgb[..., 2] < rgb[..., 1] + np.uint8(8))
    return np.asarray(ink | blood | black)
