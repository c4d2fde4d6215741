"""Slides that OpenSlide reads: SVS, NDPI, MRXS, TIFF, DICOM and others."""

from collections.abc import Mapping
from math import isfinite
from pathlib import Path

import numpy as np
import openslide
from numpy.typing import NDArray
from PIL import Image

from dirl.core.boundary import parsing
from dirl.core.errors import SlideError
from dirl.slides.base import Box, SlideInfo, checked_mpp, fill_box, overridden_mpp, tcga_origin
from dirl.slides.dicom import is_mislabelled
from dirl.slides.image import on_white
from dirl.slides.tiff import UNREADABLE, largest_image, ome_resolution

LARGEST_TILE_PX = 1 << 26


class OpenSlideSlide:
    """A slide read by OpenSlide.

    Colours are returned as they are stored: no ICC profile is applied. Transparent pixels become white.
    `path` is what the user gave: `file`, or the folder of its DICOM series. `mpp_override`, in µm/px,
    replaces the file's resolution.
    """

    def __init__(self, file: Path, path: Path, slide_id: str, mpp_override: float | None = None) -> None:
        with parsing(path, remedy=UNREADABLE, kind=SlideError, what="cannot be read"):
            self._slide = openslide.OpenSlide(file)
            properties = dict(self._slide.properties)
        _check_tiles(path, properties)
        self._ycc = properties.get("openslide.vendor") == "dicom" and is_mislabelled(file)
        patient_id, centre = tcga_origin(file.name)
        resolution = _resolution(properties, self._slide.dimensions)
        self.info = SlideInfo(
            slide_id=slide_id,
            path=path,
            patient_id=patient_id or properties.get("dicom.PatientID") or None,
            size_px=self._slide.dimensions,
            mpp=overridden_mpp(mpp_override, resolution) if mpp_override else checked_mpp(path, resolution),
            level_downsamples=self._slide.level_downsamples,
            centre=centre,
            scanned_box=scanned_box(properties, self._slide.dimensions),
        )

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of one level; see `dirl.slides.base.Slide`."""
        return fill_box(self._slide.level_dimensions[level], x, y, w, h, lambda *box: self._read(level, *box))

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def _read(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        scale = self.info.level_downsamples[level]
        with parsing(self.info.path, remedy=UNREADABLE, kind=SlideError, what="cannot be read"):
            region = self._slide.read_region((round(x * scale), round(y * scale)), level, (w, h))
        if self._ycc:
            y_cb_cr = Image.merge("YCbCr", region.split()[:3])
            region = Image.merge("RGBA", (*y_cb_cr.convert("RGB").split(), region.getchannel("A")))
        return on_white(region)


def _check_tiles(path: Path, properties: Mapping[str, str]) -> None:
    """Refuse tiles that no scanner writes: OpenSlide ends the process if memory is too small for one."""
    for level in range(int(properties.get("openslide.level-count", 0))):
        width, height = (
            int(properties.get(f"openslide.level[{level}].tile-{side}", 0)) for side in ("width", "height")
        )
        if width * height > LARGEST_TILE_PX:
            reason = f"cannot be read (tiles of {width}×{height} px)"
            raise SlideError(reason, where=path, remedy=UNREADABLE)


def is_openslide(file: Path) -> bool:
    """Whether OpenSlide knows the format, even if the file is damaged."""
    return _format(file) is not None


def reads_rightly(file: Path) -> bool:
    """Whether OpenSlide reads a file correctly.

    OpenSlide misreads some tiled TIFF files that no scanner made:

    - It reads only the first page, even if the channels have pages of their own or a later page is larger.
    - It takes the upper 8 of 16 bits, even if only 12 are used.
    - It mirrors every tile of an image whose orientation tag turns it.

    Raises
    ------
    SlideError
        If it is such a TIFF and damaged, or not in RGB.
    """
    vendor = _format(file)
    if vendor != "generic-tiff":
        return vendor is not None
    image = largest_image(file)
    upright = image.orientation in (0, 1)
    return upright and image.dtype != "uint16" and len(image.pages) == 1 and image.size_px == _size(file)


def _format(file: Path) -> str | None:
    """OpenSlide's name of the format; empty if it cannot read the file, None for an unknown format."""
    try:
        vendor: str | None = openslide.OpenSlide.detect_format(file)
    except openslide.OpenSlideError:
        return ""
    return vendor


def _size(file: Path) -> tuple[int, int]:
    with (
        parsing(file, remedy=UNREADABLE, kind=SlideError, what="cannot be read"),
        openslide.OpenSlide(file) as slide,
    ):
        width, height = slide.dimensions
    return width, height


def scanned_box(properties: Mapping[str, str], size_px: tuple[int, int]) -> Box | None:
    """Scanned box of a slide by ``openslide.bounds-*``, as QuPath reads it.

    It is left, top, width and height in level-0 pixels, clipped to the slide. It is None unless all four are
    whole numbers and the box starts on the slide.
    """
    try:
        x, y, w, h = (int(properties[f"openslide.bounds-{side}"]) for side in ("x", "y", "width", "height"))
    except (KeyError, ValueError):
        return None
    width, height = size_px
    if not (0 <= x < width and 0 <= y < height and w > 0 and h > 0):
        return None
    return x, y, min(w, width - x), min(h, height - y)


def _resolution(properties: Mapping[str, str], size_px: tuple[int, int]) -> tuple[float, float] | None:
    if found := ome_resolution(properties.get("tiff.ImageDescription", ""), size_px):
        return found
    x, y = (_number(properties.get(f"openslide.mpp-{axis}")) for axis in "xy")
    return None if x is None or y is None else (x, y)


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if isfinite(value) and value > 0 else None
