"""Opening a slide of any format, and reading it at any resolution."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dirl.core.boundary import check_name
from dirl.core.errors import SlideError
from dirl.slides.base import SAME_MPP, Slide, check_resolution, level_for
from dirl.slides.dicom import first_dicom
from dirl.slides.image import ImageSlide
from dirl.slides.openslide import OpenSlideSlide, reads_rightly


def open_slide(
    path: Path,
    mpp_override: float | None = None,
    slide_id: str | None = None,
    *,
    max_pixels: int | None = None,
) -> Slide:
    """Open a slide of any format that OpenSlide reads, or a plain image.

    `path` is a file, or a folder that holds one DICOM series. `mpp_override`, in µm/px, replaces the
    resolution in the file. The default of `slide_id` is the file's name without its suffix, or the folder's
    name. A plain image is held in memory whole; its `max_pixels` is by default
    `dirl.slides.image.MAX_PIXELS`.

    Raises
    ------
    SlideError
        If the slide is missing, cannot be read, has no resolution, or is too large for memory, or if its
        name is not UTF-8.
    """
    check_name(path)
    name = slide_id or (path.name if path.is_dir() else path.stem)
    file = first_dicom(path) if path.is_dir() else path
    if not file.is_file():
        raise SlideError("no such file", where=path, remedy="check the path")
    if reads_rightly(file):
        return OpenSlideSlide(file, path, name, mpp_override)
    return ImageSlide(file, name, mpp_override, max_pixels)


def read_box(
    slide: Slide, x0: float, y0: float, w_px: int, h_px: int, mpp: float, *, allow_upsample: bool = False
) -> NDArray[np.uint8]:
    """Read a box of the slide at any resolution, from the nearest level that is at least as fine.

    Each pixel is the mean of the area that it covers, with partly covered pixels weighted by their share. If
    the level is within 2 % of the requested resolution, the nearest pixels are returned unchanged. Averaging
    would blur them, some columns more than others. A coarser slide is enlarged (bicubic) if `allow_upsample`,
    else it is a `SlideError`.

    The corner `x0`, `y0` is in level-0 pixels, and fractions are allowed. The result has `mpp` µm/px, uint8
    (h_px, w_px, 3), and is white outside the slide.
    """
    downsample = mpp / slide.info.mpp
    check_resolution(slide.info, mpp, allow_upsample=allow_upsample)
    levels = slide.info.level_downsamples
    level = level_for(slide.info, mpp)
    step = downsample / levels[level]
    x, y = x0 / levels[level], y0 / levels[level]
    # Bicubic enlargement needs two pixels beyond the box.
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


def _area_means(
    pixels: NDArray[np.generic], start: float, step: float, count: int, axis: int
) -> NDArray[np.float32]:
    """Mean over `count` intervals of length `step` ≥ 1 along an axis; partly covered pixels count in part."""
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
