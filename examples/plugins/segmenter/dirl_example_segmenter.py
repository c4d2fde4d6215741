"""Nuclei are dark blobs: pixels that are much darker than their surroundings."""

from dataclasses import asdict, dataclass

import numpy as np
from scipy import ndimage

from dirl.cells.base import NucleiMask
from dirl.core.digests import digest


@dataclass(frozen=True)
class Blobs:
    """Options of ``dirl cells --segmenter blobs,contrast=20``."""

    mpp: float = 0.5
    contrast: float = 15.0  # grey levels below the surroundings
    min_um2: float = 10.0

    @property
    def digest(self):
        """Change the version with the code: dirl then finds the nuclei again."""
        return digest({"segmenter": "blobs", "version": 1} | asdict(self))

    def fit(self, samples, mpp):
        """Nothing is constant over a slide here, so the samples are not used."""
        return lambda windows: [self.mask(rgb, mpp) for rgb in windows]

    def mask(self, rgb, mpp):
        """Label the blobs of one window (h, w, 3)."""
        grey = rgb.astype(np.float32).mean(axis=2)
        surroundings = ndimage.gaussian_filter(grey, 10 / mpp)  # 10 µm
        dark = ndimage.gaussian_filter(grey, 1 / mpp) < surroundings - self.contrast
        labels, _ = ndimage.label(dark)
        large = np.bincount(labels.ravel()) >= self.min_um2 / mpp**2
        large[0] = False  # the background
        numbers = np.cumsum(large) * large  # 1..n without gaps
        return NucleiMask(
            labels=numbers[labels].astype(np.int32),
            classes=None,
            class_names=(),
            mpp=mpp,
            digest=self.digest,
        )
