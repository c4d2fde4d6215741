"""The canvas of the synthetic slide: dyes, noise, lattices, nuclei, and the light through them."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

# Optical density (natural logarithm) of a unit of each dye in red, green and blue.
HEMATOXYLIN = (0.66, 0.74, 0.36)
EOSIN = (0.10, 0.80, 0.40)
BLOOD = (0.12, 0.95, 0.80)
INK = (1.9, 1.25, 0.35)
GLASS = (243.0, 241.0, 243.0)


Field = NDArray[np.float32]
Point = tuple[float, float]


@dataclass
class Canvas:
    """Amounts of dye and the nuclei, drawn part by part.

    Attributes
    ----------
    rng
        Source of all random numbers.
    shape
        Height and width in pixels.
    mpp
        Resolution in µm/px.
    hematoxylin, eosin, blood, ink : ndarray of shape (h, w), float32
        Amount of each dye; 1 is strong.
    labels : ndarray of shape (h, w), int32
        Number of the nucleus, 0 for none.
    grain : ndarray of shape (h, w), float32
        The finest noise, made once because every nucleus uses it.
    count
        Number of nuclei so far.
    """

    rng: np.random.Generator
    shape: tuple[int, int]
    mpp: float
    hematoxylin: Field = field(init=False)
    eosin: Field = field(init=False)
    blood: Field = field(init=False)
    ink: Field = field(init=False)
    labels: NDArray[np.int32] = field(init=False)
    grain: Field = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        for dye in ("hematoxylin", "eosin", "blood", "ink"):
            setattr(self, dye, np.zeros(self.shape, np.float32))
        self.labels = np.zeros(self.shape, np.int32)
        self.grain = self.noise(1.0)

    @property
    def size_um(self) -> tuple[float, float]:
        """Height and width."""
        return self.shape[0] * self.mpp, self.shape[1] * self.mpp

    def noise(self, scale_um: float) -> Field:
        """Smooth noise of mean 0 and standard deviation about 1, with grains of `scale_um`."""
        height, width = (max(2, round(side / scale_um) + 2) for side in self.size_um)
        coarse = Image.fromarray(self.rng.standard_normal((height, width)).astype(np.float32))
        if scale_um > 20 * self.mpp:
            # Bicubic to a quarter of the size and then bilinear takes half the time.
            quarter = (self.shape[1] // 4 + 1, self.shape[0] // 4 + 1)
            coarse = coarse.resize(quarter, Image.Resampling.BICUBIC)
            fine = np.asarray(coarse.resize(self.shape[::-1], Image.Resampling.BILINEAR))
        else:
            fine = np.asarray(coarse.resize(self.shape[::-1], Image.Resampling.BICUBIC))
        return np.asarray(fine / fine[::4, ::4].std(), np.float32)

    def lattice(self, spacing_um: float, jitter: float, where: NDArray[np.bool_]) -> list[Point]:
        """Points (y, x) in µm of a jittered hexagonal lattice that are inside `where`."""
        height, width = self.size_um
        rows, columns = np.mgrid[0 : height : spacing_um * 0.87, 0:width:spacing_um]
        columns[1::2] += spacing_um / 2
        points = np.stack([rows.ravel(), columns.ravel()], 1)
        points += self.rng.uniform(-jitter, jitter, points.shape) * spacing_um
        pixels = (points / self.mpp).astype(int)
        inside = ((pixels >= 0) & (pixels < self.shape)).all(1)
        points, pixels = points[inside], pixels[inside]
        return [(float(y), float(x)) for y, x in points[where[pixels[:, 0], pixels[:, 1]]]]

    def patch(self, centre: Point, reach_um: float) -> tuple[tuple[slice, slice], Field, Field]:
        """Pixels within reach of a point, and their offsets from it in µm."""
        box, offsets = [], []
        for middle, extent in zip(centre, self.shape, strict=True):
            low = max(0, int((middle - reach_um) / self.mpp))
            high = min(extent, int((middle + reach_um) / self.mpp) + 2)
            box.append(slice(low, high))
            offsets.append((np.arange(low, high, dtype=np.float32) + 0.5) * np.float32(self.mpp) - middle)
        return (box[0], box[1]), offsets[0][:, None], offsets[1][None, :]

    def nucleus(self, centre: Point, long_um: float, short_um: float, angle: float, density: float) -> None:
        """Draw a nucleus of the given axes unless its place is taken; `density` is its hematoxylin."""
        box, dy, dx = self.patch(centre, 0.65 * long_um)
        if dy.size < 3 or dx.size < 3:
            return
        along = dx * np.cos(angle) + dy * np.sin(angle)
        across = dy * np.cos(angle) - dx * np.sin(angle)
        theta = np.arctan2(across, along)
        phase = self.rng.uniform(0, 2 * np.pi, 3)
        ripple = sum(0.045 * np.cos((k + 2) * theta + p) for k, p in enumerate(phase))
        radius = np.hypot(along / (long_um / 2), across / (short_um / 2)) / (1 + ripple)
        body, labels = radius < 1, self.labels[box]
        if body.sum() < 9 or (labels[body] > 0).mean() > 0.12:
            return
        body &= labels == 0
        self.count += 1
        labels[body] = self.count
        chromatin = 1 + 0.16 * self.grain[box] + 0.30 * np.clip((radius - 0.7) / 0.3, 0, 1)
        self.hematoxylin[box] += np.where(body, density * chromatin, 0)
        self.eosin[box][body] *= 0.55

    def expose(self) -> NDArray[np.uint8]:
        """Light through the dyes, the lens, and the sensor; shape (h, w, 3)."""
        # Thickness and stain of the section vary.
        uneven = 1 + 0.05 * self.noise(500)
        dyes = (self.hematoxylin * uneven, self.eosin / uneven, self.blood, self.ink)
        density = np.stack(dyes, -1) @ np.asarray((HEMATOXYLIN, EOSIN, BLOOD, INK), np.float32)
        light = np.asarray(GLASS, np.float32) * np.exp(-density)
        light = ndimage.gaussian_filter(light, (0.3 / self.mpp, 0.3 / self.mpp, 0), truncate=3)
        light += self.rng.standard_normal(light.shape, np.float32) * np.float32(1.8)
        return np.asarray(np.clip(light + 0.5, 0, 255), np.uint8)
