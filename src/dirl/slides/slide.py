"""A slide: what is known of it, the protocol that readers follow, and reading at any resolution."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dirl.core.boundary import check_name
from dirl.core.errors import SlideError

# Two resolutions within 2 % are the same: 0.499 is what scanners write for 0.5.
SAME_MPP = 0.02
Box = tuple[int, int, int, int]
"""Left, top, width and height, in level-0 pixels."""
# Project and tissue source site, then the participant: the barcodes of The Cancer Genome Atlas.
TCGA = re.compile(r"(TCGA-\w{2})-\w{4}(?=-)")


@dataclass(frozen=True)
class SlideInfo:
    """What is known of a slide.

    Attributes
    ----------
    slide_id
        Name of the slide, unique in a cohort.
    path
        File, or the folder of a DICOM series.
    patient_id
        Patient, where the file tells.
    size_px
        Width and height at level 0.
    mpp
        Resolution of level 0, in µm/px.
    level_downsamples
        How many level-0 pixels a pixel of each level spans, ascending from 1.
    centre
        Where the slide was made, where its name tells.
    stated_bounds
        Box of level 0 that holds what was scanned, as the file states it; see `bounds`.
    """

    slide_id: str
    path: Path
    patient_id: str | None
    size_px: tuple[int, int]
    mpp: float
    level_downsamples: tuple[float, ...]
    centre: str | None = None
    stated_bounds: Box | None = None

    @property
    def bounds(self) -> Box:
        """Box of level 0 that holds what was scanned: the whole slide where the file states none.

        QuPath crops a slide to it, so the origin of QuPath's coordinates is its corner.
        """
        return self.stated_bounds or (0, 0, *self.size_px)


class Slide(Protocol):
    """A slide that is open for reading."""

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        ...

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of one level, all four in that level's pixels; white outside the slide.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def open_slide(
    path: Path,
    mpp_override: float | None = None,
    slide_id: str | None = None,
    *,
    max_pixels: int | None = None,
) -> Slide:
    """Open a slide of any format that OpenSlide reads, or a plain image.

    Parameters
    ----------
    path
        A file, or a folder that holds one DICOM series.
    mpp_override
        Resolution in µm/px that is used where the file names none. It also stands against what the file
        says, so that a wrong resolution can be put right.
    slide_id
        Name of the slide; by default the file's name without its suffix, or the folder's name.
    max_pixels
        Most pixels of a plain image, which is held in memory whole; by default
        `dirl.slides.pixels.MAX_PIXELS`.

    Raises
    ------
    SlideError
        If the slide is missing, cannot be read, has no resolution, is too large to be held in memory, or if
        its name is not UTF-8.
    """
    # Deferred: both adapters import this module.
    from dirl.slides.dicom import first_dicom
    from dirl.slides.image import ImageSlide
    from dirl.slides.openslide import OpenSlideSlide, reads_rightly

    check_name(path)
    name = slide_id or (path.name if path.is_dir() else path.stem)
    file = first_dicom(path) if path.is_dir() else path
    if not file.is_file():
        raise SlideError("no such file", where=path, remedy="check the path")
    if reads_rightly(file):
        return OpenSlideSlide(file, path, name, mpp_override)
    return ImageSlide(file, name, mpp_override, max_pixels)


def tcga_origin(name: str) -> tuple[str | None, str | None]:
    """Patient and tissue source site (``TCGA-CR``) of a name that begins with a TCGA barcode, else None."""
    barcode = TCGA.match(name)
    return (barcode.group(), barcode.group(1)) if barcode else (None, None)


def read(
    slide: Slide, x0: float, y0: float, w_px: int, h_px: int, mpp: float, *, allow_upsample: bool = False
) -> NDArray[np.uint8]:
    """Read a box of the slide at a stated resolution, from the nearest level that is at least as fine.

    Each pixel is the mean of the area that it covers, parts of pixels counted as parts. Where the level is
    within 2 % of the resolution asked for, the nearest pixels are taken as they are: averaging there would
    only blur, and more in some columns than in others.

    Parameters
    ----------
    slide
        An open slide.
    x0, y0
        Top-left corner, in level-0 pixels, not necessarily whole.
    w_px, h_px
        Size of the result.
    mpp
        Resolution of the result, in µm/px.
    allow_upsample
        Enlarge (bicubic) when the slide is coarser than `mpp`.

    Returns
    -------
    ndarray of shape (h_px, w_px, 3), uint8
        White outside the slide.

    Raises
    ------
    SlideError
        If the slide is coarser than `mpp` and may not be enlarged, or if it is damaged there.
    """
    downsample = mpp / slide.info.mpp
    check_resolution(slide.info, mpp, allow_upsample=allow_upsample)
    levels = slide.info.level_downsamples
    level = level_for(slide.info, mpp)
    step = downsample / levels[level]
    x, y = x0 / levels[level], y0 / levels[level]
    # Bicubic enlargement looks two pixels beyond the box.
    margin = 2 if step < 1 - SAME_MPP else 0
    left, top = int(np.floor(x)) - margin, int(np.floor(y)) - margin
    right, bottom = int(np.ceil(x + w_px * step)) + margin, int(np.ceil(y + h_px * step)) + margin
    pixels = slide.read_level(level, left, top, right - left, bottom - top)
    x, y = x - left, y - top
    if abs(step - 1) <= SAME_MPP:
        rows = (y + (np.arange(h_px) + 0.5) * step).astype(int)
        columns = (x + (np.arange(w_px) + 0.5) * step).astype(int)
        return pixels.take(rows, axis=0).take(columns, axis=1)  # five times as fast as both at once
    if step < 1:
        box = (x, y, x + w_px * step, y + h_px * step)
        enlarged = Image.fromarray(pixels).resize((w_px, h_px), Image.Resampling.BICUBIC, box=box)
        return np.asarray(enlarged)
    means = _area_means(_area_means(pixels, y, step, h_px, axis=0), x, step, w_px, axis=1)
    return (means + 0.5).astype(np.uint8)


def level_for(info: SlideInfo, mpp: float) -> int:
    """Return the coarsest level that is at least as fine as a resolution; 0 where none is."""
    downsample = mpp / info.mpp * (1 + SAME_MPP)
    return max((i for i, d in enumerate(info.level_downsamples) if d <= downsample), default=0)


def check_resolution(info: SlideInfo, mpp: float, *, allow_upsample: bool = False) -> None:
    """Refuse to read a slide finer than it is.

    Raises
    ------
    SlideError
        If the slide is more than 2 % coarser than `mpp` and may not be enlarged.
    """
    if mpp < info.mpp * (1 - SAME_MPP) and not allow_upsample:
        raise SlideError(
            f"has {info.mpp:g} µm/px, {mpp:g} asked for",
            where=info.path,
            remedy=f"ask for {info.mpp:g} µm/px or coarser, or enlarge it: `dirl tile --allow-upsample`",
        )


def fill_box(
    size_px: tuple[int, int],
    x: int,
    y: int,
    w: int,
    h: int,
    read_inside: Callable[[int, int, int, int], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Make a box that may reach beyond a level: what is inside is read, what is outside is white.

    Parameters
    ----------
    size_px
        Width and height of the level.
    x, y, w, h
        The box, in the level's pixels.
    read_inside
        Reads a box (x, y, w, h) that lies wholly on the level.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
    """
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size_px[0]), min(y + h, size_px[1])
    if (left, top, right, bottom) == (x, y, x + w, y + h):
        return read_inside(x, y, w, h)
    box = np.full((h, w, 3), 255, np.uint8)
    if left < right and top < bottom:
        inside = read_inside(left, top, right - left, bottom - top)
        box[top - y : bottom - y, left - x : right - x] = inside
    return box


def _area_means(
    pixels: NDArray[np.generic], start: float, step: float, count: int, axis: int
) -> NDArray[np.float32]:
    """Mean over `count` intervals of length `step` ≥ 1 along an axis, parts of pixels counted as parts."""
    edges = start + step * np.arange(count + 1)
    first = np.floor(edges[:-1]).astype(int)
    shape = [1] * pixels.ndim
    shape[axis] = count
    total = np.zeros([*pixels.shape[:axis], count, *pixels.shape[axis + 1 :]], np.float32)
    for k in range(int(np.ceil(step)) + 1):
        index = first + k
        overlap = np.minimum(edges[1:], index + 1) - np.maximum(edges[:-1], index)
        weight = (np.clip(overlap, 0, None) / step).astype(np.float32)
        if weight.any():
            index = np.minimum(index, pixels.shape[axis] - 1)
            total += np.take(pixels, index, axis=axis) * weight.reshape(shape)
    return total
