"""Slides that OpenSlide reads: SVS, NDPI, MRXS, TIFF, DICOM and others."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from dirl.errors import SlideError
from dirl.slides.dicom import is_mislabelled
from dirl.slides.slide import Box, SlideInfo, fill_box, tcga_origin

MPP_REMEDY = (
    "state it in µm/px with --mpp-override UM (for one of several slides: `dirl tile --slides-table CSV`)"
)


class OpenSlideSlide:
    """A slide read by OpenSlide.

    Colours are given as they are stored: an ICC profile is not applied. What is transparent is white.

    Parameters
    ----------
    file
        File to open; any one of a DICOM series.
    path
        What the user named: the file, or the folder of the DICOM series.
    slide_id
        Name of the slide.
    mpp_override
        Resolution in µm/px instead of the file's, or where the file names none.

    Raises
    ------
    SlideError
        If the file cannot be read or has no resolution.
    """

    def __init__(self, file: Path, path: Path, slide_id: str, mpp_override: float | None = None) -> None:
        try:
            self._slide = openslide.OpenSlide(file)
        except openslide.OpenSlideError as error:
            raise _unreadable(path, error) from error
        properties = self._slide.properties
        self._ycc = properties.get("openslide.vendor") == "dicom" and is_mislabelled(file)
        patient_id, centre = tcga_origin(file.name)
        self.info = SlideInfo(
            slide_id=slide_id,
            path=path,
            patient_id=patient_id or properties.get("dicom.PatientID") or None,
            size_px=self._slide.dimensions,
            mpp=mpp_override or _mpp(path, properties),
            level_downsamples=self._slide.level_downsamples,
            centre=centre,
            stated_bounds=stated_bounds(properties, self._slide.dimensions),
        )

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of one level; see `dirl.slides.slide.Slide`."""
        return fill_box(self._slide.level_dimensions[level], x, y, w, h, lambda *box: self._read(level, *box))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _read(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        scale = self.info.level_downsamples[level]
        try:
            region = self._slide.read_region((round(x * scale), round(y * scale)), level, (w, h))
        except openslide.OpenSlideError as error:
            raise _unreadable(self.info.path, error) from error
        if self._ycc:
            y_cb_cr = Image.merge("YCbCr", region.split()[:3])
            region = Image.merge("RGBA", (*y_cb_cr.convert("RGB").split(), region.getchannel("A")))
        return on_white(region)


def is_openslide(file: Path) -> bool:
    """Whether OpenSlide knows the format, be the file sound or not."""
    try:
        return openslide.OpenSlide.detect_format(file) is not None
    except openslide.OpenSlideError:
        return True


def on_white(image: Image.Image) -> NDArray[np.uint8]:
    """RGB pixels of an image of any 8-bit mode, laid over white."""
    if image.mode == "RGB":
        return np.asarray(image)
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def stated_bounds(properties: Mapping[str, str], size_px: tuple[int, int]) -> Box | None:
    """Box that holds what was scanned, by ``openslide.bounds-*``, as QuPath takes it.

    Parameters
    ----------
    properties
        OpenSlide's.
    size_px
        Width and height of level 0.

    Returns
    -------
    tuple of int, or None
        Left, top, width and height in level-0 pixels, cut off at the slide's end. None where the four are not
        all whole numbers of a box that begins on the slide.
    """
    try:
        x, y, w, h = (int(properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    width, height = size_px
    if not (0 <= x < width and 0 <= y < height and w > 0 and h > 0):
        return None
    return x, y, min(w, width - x), min(h, height - y)


def _mpp(path: Path, properties: Mapping[str, str]) -> float:
    values = [_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy"]
    if any(value is None for value in values):
        raise SlideError("names no resolution (mpp)", where=path, remedy=MPP_REMEDY)
    x, y = (value for value in values if value is not None)
    if max(x, y) > 1.05 * min(x, y):
        raise SlideError(f"pixels are not square ({x:g} × {y:g} µm)", where=path, remedy=MPP_REMEDY)
    return (x + y) / 2


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if isfinite(value) and value > 0 else None


def _unreadable(path: Path, error: Exception) -> SlideError:
    reason = f"cannot be read ({' '.join(str(error).split())})"
    return SlideError(reason, where=path, remedy="copy or export the slide again, or leave it out")
