"""Ten corruptions of tiles, each at five severities.

The kinds are those of Zhang et al. 2022 (arXiv 2206.14973) for pathology, and a shift of the stains. The
strength of each severity was chosen here. Lengths are in pixels of the tile or shares of its side, so a
severity damages the image alike at any resolution. Random choices for a tile come from a generator that the
caller keys by the tile alone. So a higher severity damages a tile more, in the same place and direction.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pictures
from PIL import ImageDraw
from scipy.ndimage import distance_transform_edt, gaussian_filter
from torch.nn.functional import conv2d, pad
from torchvision.transforms.v2 import functional as colours

from dirl.config import ViewsConfig
from dirl.config.stages import Corruption
from dirl.views.stain import DRAWS, restain

Image = NDArray[np.uint8]
Change = Callable[[Image, int, np.random.Generator], Image]

JPEG_QUALITY = (60, 40, 25, 15, 8)
KEPT_SIDE = (0.7, 0.5, 0.4, 0.3, 0.2)
DEFOCUS_RADIUS_PX = (1.0, 1.5, 2.5, 3.5, 5.0)
MOTION_LENGTH_PX = (3, 5, 9, 13, 19)
BRIGHTNESS = (0.08, 0.15, 0.22, 0.3, 0.4)
SATURATION = (0.15, 0.3, 0.45, 0.6, 0.75)
HUE_TURNS = (0.01, 0.025, 0.05, 0.08, 0.12)
PEN_WIDTH = (0.03, 0.06, 0.1, 0.15, 0.22)
BUBBLE_RADIUS = (0.1, 0.16, 0.22, 0.3, 0.4)
STAIN = (0.1, 0.2, 0.3, 0.45, 0.6)

PENS = ((20, 90, 40), (25, 45, 130), (20, 20, 25), (170, 25, 40))
PEN_OPACITY = 0.85


def corrupt(image: Image, name: Corruption, severity: int, generator: np.random.Generator) -> Image:
    """Damage a tile, uint8 (h, w, 3), by one of `CORRUPTIONS` at a severity of 1 to 5.

    The generator chooses place and direction; it is in the same state for every severity of a tile.
    """
    return CORRUPTIONS[name](image, severity - 1, generator)


def _jpeg(image: Image, level: int, generator: np.random.Generator) -> Image:
    data = io.BytesIO()
    Pictures.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY[level])
    return np.asarray(Pictures.open(data))


def _pixelate(image: Image, level: int, generator: np.random.Generator) -> Image:
    whole = Pictures.fromarray(image)
    width, height = (max(1, round(side * KEPT_SIDE[level])) for side in whole.size)
    few = whole.resize((width, height), Pictures.Resampling.BOX)
    return np.asarray(few.resize(whole.size, Pictures.Resampling.NEAREST))


def _defocus(image: Image, level: int, generator: np.random.Generator) -> Image:
    radius = DEFOCUS_RADIUS_PX[level]
    reach = int(np.ceil(radius))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    # A pixel at the rim counts by the share that the disc covers, so radii need not be whole.
    return _convolve(image, np.clip(radius + 0.5 - np.hypot(x, y), 0, 1))


def _motion(image: Image, level: int, generator: np.random.Generator) -> Image:
    length, angle = MOTION_LENGTH_PX[level], generator.random() * np.pi
    reach = length // 2 + 1
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    along = np.linspace(-(length - 1) / 2, (length - 1) / 2, 8 * length)
    y, x = along * np.sin(angle) + reach, along * np.cos(angle) + reach
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    for dy in (0, 1):
        for dx in (0, 1):
            np.add.at(kernel, (top + dy, left + dx), (1 - abs(y - top - dy)) * (1 - abs(x - left - dx)))
    return _convolve(image, kernel)


def _brightness(image: Image, level: int, generator: np.random.Generator) -> Image:
    factor = 1 + _sign(generator) * BRIGHTNESS[level]
    return _channels_last(colours.adjust_brightness(_tensor(image), factor))


def _saturation(image: Image, level: int, generator: np.random.Generator) -> Image:
    factor = 1 + _sign(generator) * SATURATION[level]
    return _channels_last(colours.adjust_saturation(_tensor(image), factor))


def _hue(image: Image, level: int, generator: np.random.Generator) -> Image:
    return _channels_last(colours.adjust_hue(_tensor(image), _sign(generator) * HUE_TURNS[level]))


def _stain(image: Image, level: int, generator: np.random.Generator) -> Image:
    """More or less hematoxylin, and more or less eosin; each by its own sign."""
    draws = np.full((1, DRAWS), 0.5)
    draws[0, [0, 1]] = generator.integers(0, 2, size=2)
    moved = restain(_tensor(image)[None].float() / 255, draws, ViewsConfig(stain_jitter=STAIN[level]), None)
    return _channels_last(moved[0].mul(255).round().to(torch.uint8))


def _pen(image: Image, level: int, generator: np.random.Generator) -> Image:
    """A curved stroke of a marker from edge to edge, through which some tissue shows."""
    height, width = image.shape[:2]
    colour = PENS[int(generator.integers(len(PENS)))]
    ends, bend = generator.random(2), generator.uniform(-0.4, 0.4)
    t = np.linspace(-0.1, 1.1, 60)
    across = ends[0] + (ends[1] - ends[0]) * t + bend * t * (1 - t)
    points = [(float(x * width), float(y * height)) for x, y in zip(t, across, strict=True)]
    if generator.random() < 0.5:
        points = [(y / height * width, x / width * height) for x, y in points]
    line = Pictures.new("1", (width, height), 1)
    ImageDraw.Draw(line).line(points, fill=0)
    distance = distance_transform_edt(np.asarray(line))
    share = PEN_OPACITY * np.clip(PEN_WIDTH[level] * width / 2 + 0.5 - distance, 0, 1)[..., None]
    return _rounded(image * (1 - share) + np.array(colour) * share)


def _bubble(image: Image, level: int, generator: np.random.Generator) -> Image:
    """A bubble of air under the glass: pale and out of focus inside, with a dark rim."""
    height, width = image.shape[:2]
    middle = generator.uniform(0.2, 0.8, size=2) * (height, width)
    radius = BUBBLE_RADIUS[level] * min(height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    outside = np.hypot(y - middle[0], x - middle[1]) - radius
    rim_px = max(1.0, 0.06 * radius)
    inside = np.clip(0.5 - outside, 0, 1)[..., None]
    pale = gaussian_filter(image.astype(float), (0.01 * width, 0.01 * width, 0)) * 0.7 + 255 * 0.3
    rim = 0.6 * np.exp(-((outside / rim_px) ** 2))[..., None]
    return _rounded((image * (1 - inside) + pale * inside) * (1 - rim))


CORRUPTIONS: dict[Corruption, Change] = {
    "jpeg": _jpeg,
    "pixelate": _pixelate,
    "defocus": _defocus,
    "motion": _motion,
    "brightness": _brightness,
    "saturation": _saturation,
    "hue": _hue,
    "stain": _stain,
    "pen": _pen,
    "bubble": _bubble,
}


def _sign(generator: np.random.Generator) -> int:
    return 1 if generator.random() < 0.5 else -1


def _convolve(image: Image, kernel: NDArray[np.floating]) -> Image:
    weights = torch.from_numpy(kernel / kernel.sum()).float()[None, None]
    reach = kernel.shape[0] // 2
    channels = pad(_tensor(image)[:, None].float(), (reach,) * 4, mode="reflect")
    return _channels_last(conv2d(channels, weights)[:, 0].round().clamp(0, 255).to(torch.uint8))


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _channels_last(image: torch.Tensor) -> Image:
    last: Image = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return last


def _rounded(values: NDArray[np.floating]) -> Image:
    rounded: Image = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return rounded
