"""Plain images as slides: PNG, JPEG, and TIFF without a pyramid."""

import warnings
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dirl.errors import SlideError
from dirl.slides.openslide import MPP_REMEDY, on_white
from dirl.slides.slide import SlideInfo, fill_box, tcga_origin

DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "F")


class ImageSlide:
    """A plain image, loaded whole at the first read.

    Parameters
    ----------
    path
        Image file.
    slide_id
        Name of the slide.
    mpp_override
        Resolution in µm/px. Required: what such files say of it (dots per inch) is seldom true.

    Raises
    ------
    SlideError
        If the resolution is not stated, or the file is no 8-bit image or one too large to load whole.
    """

    def __init__(self, path: Path, slide_id: str, mpp_override: float | None = None) -> None:
        size, mode = _header(path)
        if mode in DEEP_MODES:
            remedy = "convert it to 8-bit RGB"
            raise SlideError(f"not an 8-bit image (mode {mode})", where=path, remedy=remedy)
        if mpp_override is None:
            raise SlideError("a plain image names no resolution (mpp)", where=path, remedy=MPP_REMEDY)
        patient_id, centre = tcga_origin(path.name)
        self.info = SlideInfo(slide_id, path, patient_id, size, mpp_override, (1.0,), centre)

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of the image; see `dirl.slides.slide.Slide`."""
        if level != 0:
            raise IndexError(f"a plain image has one level, not {level + 1}")
        return fill_box(self.info.size_px, x, y, w, h, lambda x, y, w, h: self._pixels[y : y + h, x : x + w])

    def close(self) -> None:
        """Let go of the pixels."""
        self.__dict__.pop("_pixels", None)

    @cached_property
    def _pixels(self) -> NDArray[np.uint8]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(self.info.path) as image:
                    return on_white(image)
        except (OSError, ValueError, SyntaxError) as error:
            raise _unreadable(self.info.path, error) from error


def _header(path: Path) -> tuple[tuple[int, int], str]:
    try:
        with warnings.catch_warnings():
            # Pillow warns at half of the size that it refuses; only the refusal matters here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.size, image.mode
    except Image.DecompressionBombError as error:
        remedy = "convert it to a tiled pyramidal TIFF, for example with `vips tiffsave --tile --pyramid`"
        raise SlideError("a plain image too large to load whole", where=path, remedy=remedy) from error
    except UnidentifiedImageError as error:
        raise _unreadable(path, "neither OpenSlide nor Pillow knows the format") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, reason: object) -> SlideError:
    return SlideError(
        f"cannot be read ({reason})", where=path, remedy="copy or export the slide again, or leave it out"
    )
