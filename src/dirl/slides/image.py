"""Plain images as slides: PNG, JPEG, and TIFF without a pyramid."""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import SlideError
from dirl.slides.base import MPP_REMEDY, SlideInfo, checked_mpp, fill_box, tcga_origin
from dirl.slides.pixels import Picture, open_picture


class ImageSlide:
    """A plain image, loaded whole at the first read.

    Parameters
    ----------
    path
        Image file.
    slide_id
        Name of the slide.
    mpp_override
        Resolution in µm/px. Required except for OME-TIFF and tiled TIFF: the dots per inch of other
        plain images are rarely right.
    max_pixels
        Largest number of pixels; see `open_picture`.

    Raises
    ------
    SlideError
        If the resolution is unknown, or the file is not an 8-bit image or too large to load whole.
    """

    def __init__(
        self, path: Path, slide_id: str, mpp_override: float | None = None, max_pixels: int | None = None
    ) -> None:
        self._picture = open_picture(path, max_pixels)
        mpp = mpp_override or _mpp(self._picture)
        patient_id, centre = tcga_origin(path.name)
        self.info = SlideInfo(slide_id, path, patient_id, self._picture.size_px, mpp, (1.0,), centre)

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of the image; see `dirl.slides.base.Slide`."""
        if level != 0:
            raise IndexError(f"a plain image has one level, not {level + 1}")
        return fill_box(self.info.size_px, x, y, w, h, lambda x, y, w, h: self._pixels[y : y + h, x : x + w])

    def close(self) -> None:
        """Free the pixels."""
        self.__dict__.pop("_pixels", None)

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        return self._picture.pixels()


def _mpp(picture: Picture) -> float:
    if picture.tiff is not None and picture.tiff.ome_resolution is not None:
        return checked_mpp(picture.path, picture.tiff.ome_resolution)
    if picture.tiff is None or not picture.tiff.tiled:
        raise SlideError("a plain image gives no resolution (mpp)", where=picture.path, remedy=MPP_REMEDY)
    return checked_mpp(picture.path, picture.tiff.resolution)
