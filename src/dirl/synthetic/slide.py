"""An H&E-like slide with known nuclei, drawn from a seed.

Two dyes are drawn as absorbances, hematoxylin mostly in nuclei and eosin elsewhere. The Beer–Lambert law
mixes them. The slide replaces a real one in the demo and in tests against the true nuclei. It only looks like
tissue: no number from it says anything about real tissue.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from dirl.core.files import replacing
from dirl.synthetic.canvas import Canvas, Field, Point

GLASS_MARGIN_UM = 70.0
GLAND_SPACING_UM = 118.0
FAT_SPACING_UM = 62.0
LYMPHOCYTE_SPACING_UM = 7.6
STROMA_SPACING_UM = 17.0
FLOW_STEP_PX = 8


@dataclass(frozen=True)
class SyntheticSlide:
    """A drawn slide and its true nuclei.

    Attributes
    ----------
    rgb : ndarray of shape (h, w, 3), uint8
        The image.
    labels : ndarray of shape (h, w), int32
        Number of each pixel's nucleus, 0 for none.
    mpp
        Resolution in µm/px.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.int32]
    mpp: float


def draw(seed: int, size_px: tuple[int, int] = (2048, 2048), mpp: float = 0.5) -> SyntheticSlide:
    """Draw a slide: glands in a fibrous stroma, lymphocytes, fat, a vessel, a glass margin and a pen mark.

    The same seed gives the same image, `size_px` wide and high. It looks realistic at 0.25 to 1 µm/px.
    """
    canvas = Canvas(np.random.default_rng(seed), (size_px[1], size_px[0]), mpp)
    tissue = _section(canvas)
    fat = _fat(canvas, tissue & (canvas.noise(300) > 1.45)) & tissue
    glandular = tissue & ~fat & (canvas.noise(380) > -0.6)
    flow = _stroma(canvas, tissue & ~fat)
    free = tissue & ~fat
    for centre in canvas.lattice(GLAND_SPACING_UM, 0.16, ndimage.binary_erosion(glandular, iterations=8)):
        _gland(canvas, centre, free)
    for centre in canvas.lattice(430, 0.35, free):
        _vessel(canvas, centre, free)
    _lymphocytes(canvas, free)
    _spindles(canvas, free, flow)
    for layer in (canvas.hematoxylin, canvas.eosin, canvas.blood, canvas.labels):
        layer[~tissue] = 0
    _pen(canvas)
    return SyntheticSlide(canvas.expose(), _renumbered(canvas.labels), mpp)


def write(path: Path, seed: int, size_px: tuple[int, int] = (2048, 2048), mpp: float = 0.5) -> SyntheticSlide:
    """Write a slide as a tiled, pyramidal TIFF, and its labels as ``NAME.labels.png`` (16 bit) beside it.

    OpenSlide reads the TIFF and its resolution. Arguments are those of `draw`.
    """
    slide = draw(seed, size_px, mpp)
    # The slide comes last: if it exists, the labels are complete.
    with replacing(path.with_suffix(".labels.png")) as temporary:
        Image.fromarray(slide.labels.astype(np.uint16)).save(temporary, "PNG")
    with replacing(path) as temporary, tifffile.TiffWriter(temporary) as tiff:
        level, factor = slide.rgb, 1
        while factor == 1 or min(level.shape[:2]) >= 256:
            pixels_per_cm = 1e4 / (mpp * factor)
            tiff.write(
                level,
                photometric="rgb",
                tile=(256, 256),
                compression="zlib",
                subfiletype=int(factor > 1),
                resolution=(pixels_per_cm, pixels_per_cm),
                resolutionunit="CENTIMETER",
                metadata=None,
            )
            level, factor = np.asarray(Image.fromarray(level).reduce(2)), factor * 2
    return slide


def _section(canvas: Canvas) -> NDArray[np.bool_]:
    """Outline of the tissue, with a wavy margin of glass and a few tears."""
    height, width = canvas.size_um
    y, x = np.ogrid[0 : height : canvas.mpp, 0 : width : canvas.mpp]
    edge = np.minimum(np.minimum(y, height - y), np.minimum(x, width - x))[
        : canvas.shape[0], : canvas.shape[1]
    ]
    edge = edge + 22 * canvas.noise(180) + 4 * canvas.noise(25) + 1.2 * canvas.noise(6)
    tear = np.abs(canvas.noise(260) + 0.15 * canvas.noise(30)) < 0.035
    return np.asarray((edge > GLASS_MARGIN_UM) & ~(tear & (canvas.noise(300) > 0.6)))


def _stroma(canvas: Canvas, where: NDArray[np.bool_]) -> Field:
    """Collagen: noise that is stretched along the level lines of a smooth potential.

    Returns the fibres' angle at every `FLOW_STEP_PX`-th pixel.
    """
    height, width = canvas.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) * np.float32(canvas.mpp)
    angle = canvas.rng.uniform(0, np.pi)
    across = x * np.sin(angle) + y * np.cos(angle) + 85 * canvas.noise(330) + 6 * canvas.noise(45)
    along = x * np.cos(angle) - y * np.sin(angle)
    texture = np.zeros(canvas.shape, np.float32)
    for thickness, length, weight in ((2.2, 45, 0.55), (8.0, 140, 0.8)):
        noise = canvas.rng.standard_normal((512, 512)).astype(np.float32)
        place = (across / thickness, along / length)
        texture += np.float32(weight) * ndimage.map_coordinates(noise, place, order=1, mode="grid-wrap")
    amount = np.clip(0.46 + 0.25 * texture + 0.07 * canvas.noise(140), 0.0, 1.0)
    amount *= 1 + 0.06 * canvas.grain
    canvas.eosin += np.where(where, amount, 0)
    canvas.hematoxylin += np.where(where, 0.10 * amount + 0.012 * np.abs(canvas.grain), 0)
    dy, dx = np.gradient(across[::FLOW_STEP_PX, ::FLOW_STEP_PX])
    return np.asarray(np.arctan2(dx, -dy), np.float32)


def _gland(canvas: Canvas, centre: Point, free: NDArray[np.bool_]) -> None:
    """A ring of tall cells with basal nuclei around a pale lumen. Its area is removed from `free`."""
    rng = canvas.rng
    radius, tall = rng.uniform(36, 58), rng.uniform(19, 25)
    stretch, tilt = rng.uniform(1.0, 1.35), rng.uniform(0, np.pi)
    phase, lobes = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.02, 0.07, 4)

    def rim(theta: Field | float) -> Field:
        wave = sum(a * np.cos((k + 2) * theta + p) for k, (a, p) in enumerate(zip(lobes, phase, strict=True)))
        oval = 1 / np.hypot(np.cos(theta - tilt) / stretch, np.sin(theta - tilt) * stretch)
        return np.asarray(radius * oval * (1 + wave), np.float32)

    box, dy, dx = canvas.patch(centre, 1.7 * radius)
    theta = np.arctan2(dy, dx)
    depth = rim(theta) - np.hypot(dx, dy)
    inside = (depth > 0) & free[box]
    if inside.sum() < 0.95 * (depth > 0).sum():
        return
    cells = inside & (depth < tall)
    lumen = inside & ~cells
    grain = canvas.grain[box]
    eosin, hematoxylin = canvas.eosin[box], canvas.hematoxylin[box]
    eosin[cells] = (0.40 + 0.05 * grain + 0.10 * np.clip(depth / tall, 0, 1))[cells]
    hematoxylin[cells] = (0.17 + 0.03 * grain)[cells]
    # Cell borders, and the brush border at the lumen.
    borders = np.cos(theta * round(2 * np.pi * radius / 7.5)) > 0.93
    eosin[cells & borders] += 0.10
    eosin[cells & (depth > tall - 1.5)] += 0.22
    secretion = np.clip(0.05 + 0.07 * canvas.noise(14)[box], 0, 0.3)
    eosin[lumen] = secretion[lumen]
    hematoxylin[lumen] = 0.25 * secretion[lumen]
    eosin[(depth < 0) & (depth > -1.6) & free[box]] = 0.75
    free[box] &= ~((depth > -4) & (depth < 2 * radius))
    step = 6.6
    for angle in np.arange(0, 2 * np.pi, step / radius):
        place = angle + rng.normal(0, 0.02)
        sink = rng.normal(6.6, 1.1) + (rng.random() < 0.22) * 5.0
        reach = float(rim(place)) - sink
        point = (centre[0] + reach * np.sin(place), centre[1] + reach * np.cos(place))
        canvas.nucleus(
            point, rng.uniform(8.2, 10.0), rng.uniform(5.0, 6.2), place + rng.normal(0, 0.12), 0.72
        )
        if rng.random() < 0.30:
            _goblet(canvas, centre, place + 0.5 * step / radius, float(rim(place)) - 0.66 * tall)


def _goblet(canvas: Canvas, centre: Point, angle: float, reach: float) -> None:
    """A droplet of mucus in a cell of a gland."""
    point = (centre[0] + reach * np.sin(angle), centre[1] + reach * np.cos(angle))
    box, dy, dx = canvas.patch(point, 6)
    drop = (np.hypot(dy, dx) < canvas.rng.uniform(3.0, 4.4)) & (canvas.labels[box] == 0)
    canvas.eosin[box][drop] = 0.10
    canvas.hematoxylin[box][drop] = 0.11


def _vessel(canvas: Canvas, centre: Point, free: NDArray[np.bool_]) -> None:
    """A small vessel with red blood cells."""
    rng = canvas.rng
    radius, stretch, tilt = rng.uniform(13, 24), rng.uniform(1.0, 1.6), rng.uniform(0, np.pi)
    box, dy, dx = canvas.patch(centre, 2.0 * radius)
    along, across = dx * np.cos(tilt) + dy * np.sin(tilt), dy * np.cos(tilt) - dx * np.sin(tilt)
    depth = radius - np.hypot(along / stretch, across * stretch)
    if not free[box][depth > 0].all():
        return
    canvas.eosin[box][depth > 0] = 0.04
    canvas.hematoxylin[box][depth > 0] = 0.01
    wall = (depth > -5) & (depth < 0)
    canvas.eosin[box][wall] = (0.62 + 0.08 * canvas.grain[box])[wall]
    lumen = np.zeros(canvas.shape, bool)
    lumen[box] = depth > 3
    for point in canvas.lattice(6.4, 0.3, lumen):
        if rng.random() < 0.75:
            cell, y, x = canvas.patch(point, 4)
            canvas.blood[cell][np.hypot(y, x) < 3.1] = rng.uniform(0.75, 1.0)
    for angle in np.arange(0, 2 * np.pi, 15 / radius):
        y, x = (radius + 1.8) / stretch * np.sin(angle), (radius + 1.8) * stretch * np.cos(angle)
        point = (
            centre[0] + y * np.cos(tilt) + x * np.sin(tilt),
            centre[1] + x * np.cos(tilt) - y * np.sin(tilt),
        )
        canvas.nucleus(point, 9.5, 3.0, tilt + angle + np.pi / 2, 0.95)
    free[box] &= depth < -6


def _fat(canvas: Canvas, zone: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fat: thin walls between the cells of a jittered lattice, with flat nuclei. Returns its area."""
    fat = np.zeros(canvas.shape, bool)
    centres = np.array(canvas.lattice(FAT_SPACING_UM, 0.22, np.ones(canvas.shape, bool)))
    rows, columns = (centres / canvas.mpp).astype(int).T
    chosen = zone[rows, columns]
    if not chosen.any():
        return fat
    near_zone = np.zeros(canvas.shape, bool)
    for row, column in zip(rows[chosen], columns[chosen], strict=True):
        reach = int(FAT_SPACING_UM / canvas.mpp)
        near_zone[max(0, row - reach) : row + reach, max(0, column - reach) : column + reach] = True
    pixels = np.argwhere(near_zone)
    distance, index = cKDTree(centres).query((pixels + 0.5) * canvas.mpp, k=2)
    inside = chosen[index[:, 0]]
    pixels, distance, index = pixels[inside], distance[inside], index[inside]
    fat[pixels[:, 0], pixels[:, 1]] = True
    wall = np.clip(1.2 - (distance[:, 1] - distance[:, 0]) / 3.0, 0, 1).astype(np.float32)
    canvas.eosin[fat] = 0.55 * wall
    canvas.hematoxylin[fat] = 0.06 * wall
    on_wall = np.flatnonzero(wall > 0.95)
    for i in canvas.rng.choice(on_wall, min(len(on_wall), int(chosen.sum())), replace=False):
        dy, dx = centres[index[i, 0]] - centres[index[i, 1]]
        point = (float(pixels[i, 0] * canvas.mpp), float(pixels[i, 1] * canvas.mpp))
        canvas.nucleus(point, 9.0, 3.2, np.arctan2(dy, dx) + np.pi / 2, 1.0)
    return fat


def _lymphocytes(canvas: Canvas, free: NDArray[np.bool_]) -> None:
    """Groups of small, round, dark nuclei, and single ones."""
    crowd = free & (canvas.noise(210) + 0.25 * canvas.noise(30) > 1.3)
    canvas.eosin[crowd] *= 0.55
    single = free & (canvas.noise(12) > 2.3)
    for where, share in ((crowd, 0.86), (single, 0.5)):
        for point in canvas.lattice(LYMPHOCYTE_SPACING_UM, 0.17, where):
            if canvas.rng.random() < share:
                long = canvas.rng.uniform(6.0, 7.2)
                canvas.nucleus(
                    point, long, canvas.rng.uniform(0.85, 1.0) * long, canvas.rng.uniform(0, 3.1), 1.15
                )


def _spindles(canvas: Canvas, free: NDArray[np.bool_], flow: Field) -> None:
    """Fibroblasts: slender nuclei along the fibres."""
    step = FLOW_STEP_PX * canvas.mpp
    for y, x in canvas.lattice(STROMA_SPACING_UM, 0.42, free & (canvas.noise(70) > -0.8)):
        angle = float(flow[int(y / step), int(x / step)]) + canvas.rng.normal(0, 0.18)
        plump = canvas.rng.random()
        canvas.nucleus((y, x), 10.5 - 2.0 * plump, 2.7 + 2.2 * plump, angle, 1.05 - 0.35 * plump)


def _pen(canvas: Canvas) -> None:
    """Blue ink: one stroke on the glass and over the edge of the tissue."""
    height, width = canvas.size_um
    y, x = np.ogrid[0 : canvas.shape[0], 0 : canvas.shape[1]]
    y, x = y * canvas.mpp, x * canvas.mpp
    path = 0.93 * width + 0.03 * width * np.sin(5 * y / height + canvas.rng.uniform(0, 6))
    off = np.abs(x - path) + 2 * canvas.noise(20)
    ends = np.minimum(y - 0.58 * height, 0.9 * height - y)
    inside = np.minimum(0.022 * width - off, ends + 3 * canvas.noise(15))
    canvas.ink += np.clip(inside / 3, 0, 1) * (0.8 + 0.1 * canvas.noise(40))
    # Nuclei under ink cannot be seen.
    canvas.labels[canvas.ink > 0.1] = 0


def _renumbered(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Number nuclei from 1 without gaps. Remains of a nucleus below 9 px are removed."""
    sizes = np.bincount(labels.ravel())
    kept = sizes >= 9
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return np.asarray(numbers[labels])
