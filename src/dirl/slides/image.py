"""Plain images, PNG, JPEG and TIFF without a pyramid: their header, their pixels, and each as a slide."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dirl.core.boundary import parsing
from dirl.core.errors import MachineError, SlideError
from dirl.slides.base import MPP_REMEDY, SlideInfo, checked_mpp, fill_box, overridden_mpp, tcga_origin
from dirl.slides.tiff import AS_RGB, UNREADABLE, TiffImage, is_tiff, largest_image, warn_of_turn

MAX_PIXELS = 1_000_000_000  # about 7 GB while it is decoded
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")
# Pillow keeps the upper 8 of 16 bits. Glass is bright, so an image this dark used fewer bits.
NEARLY_BLACK = 64
PYRAMID = "convert it to a tiled pyramidal TIFF, for example with `vips tiffsave --tile --pyramid`"

# From the image as viewers show it to the image as it is stored, by EXIF's numbers.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
ORIENTATION = 0x0112

_PILLOWS_LIMIT = Image.MAX_IMAGE_PIXELS
_opening = threading.Lock()


@dataclass(frozen=True)
class PlainImage:
    """The header of a plain image.

    `jpeg` tells whether it is a baseline RGB JPEG, like the tiles of a store, and `deep` whether its channels
    have 16 bits. `tiff` is its description if it is a TIFF.
    """

    path: Path
    size_px: tuple[int, int]
    jpeg: bool
    deep: bool
    tiff: TiffImage | None = None

    def pixels(self, *, guess: bool = True) -> NDArray[np.uint8]:
        """Decode the image, uint8 (h, w, 3). Transparent pixels are laid over white.

        If a TIFF of 16 bits a channel does not give the number of used bits, `guess` estimates it from the
        brightest pixel. A `SlideError` tells that it is damaged, or nearly black because it uses few bits. A
        `MachineError` tells that memory is too small.
        """
        if self.tiff is not None and self.deep:
            return self.tiff.deep_pixels(guess=guess)
        if self.tiff is not None and len(self.tiff.pages) == 3:
            return np.stack([_decoded(self.path, page)[..., 0] for page in self.tiff.pages], axis=-1)
        rgb = _decoded(self.path, 0 if self.tiff is None else self.tiff.pages[0])
        if self.tiff is not None and self.tiff.orientation in STORED:  # Pillow turns TIFFs, and only those
            rgb = np.asarray(Image.fromarray(rgb).transpose(STORED[self.tiff.orientation]))
        if self.deep and rgb.max() < NEARLY_BLACK:
            reason = f"nearly black: it has 16 bits a channel, and no pixel is above {rgb.max()} of 255"
            raise SlideError(reason, where=self.path, remedy=f"scale its values, and {AS_RGB}")
        return rgb


def open_image(path: Path, max_pixels: int | None = None) -> PlainImage:
    """Read the header of a PNG, JPEG, TIFF or another format of Pillow.

    A `SlideError` tells that it cannot be read, does not have 8-bit channels, or has more than `max_pixels`,
    by default `MAX_PIXELS`. The image is held in memory whole.
    """
    limit = MAX_PIXELS if max_pixels is None else max_pixels
    with parsing(path, remedy=UNREADABLE, kind=SlideError, what="cannot be read"):
        tiff = is_tiff(path)
    if tiff:
        image = largest_image(path)
        _check_size(path, image.size_px, limit)
        return PlainImage(path, image.size_px, False, image.dtype == "uint16", image)
    with _opened(path) as picture:
        size, mode, jpeg = picture.size, picture.mode, picture.format == "JPEG"
        baseline = jpeg and mode == "RGB" and "progressive" not in picture.info
        deep = any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))
        orientation = _orientation(picture)
    _check_size(path, size, limit)
    warn_of_turn(path, orientation)
    if mode in DEEP_MODES:
        raise SlideError(f"is not an 8-bit image (mode {mode})", where=path, remedy=AS_RGB)
    return PlainImage(path, size, baseline, deep)


def _orientation(picture: Image.Image) -> int:
    """EXIF's number for how viewers turn it; 1 if the EXIF data are damaged."""
    with suppress(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return int(picture.getexif().get(ORIENTATION, 1))
    return 1


def on_white(image: Image.Image) -> NDArray[np.uint8]:
    """RGB pixels of an image of any 8-bit mode, laid over white."""
    if image.mode == "RGB":
        return np.asarray(image)
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image.convert("RGB"))


def _decoded(path: Path, page: int) -> NDArray[np.uint8]:
    with _opened(path, page) as picture:
        return on_white(picture)


@contextmanager
def _opened(path: Path, page: int = 0) -> Iterator[Image.Image]:
    """Open an image with Pillow, without Pillow's default size limit."""
    with parsing(path, remedy=UNREADABLE, kind=SlideError, what="cannot be read"):
        try:
            with _opening, warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                limit = Image.MAX_IMAGE_PIXELS
                Image.MAX_IMAGE_PIXELS = None if limit == _PILLOWS_LIMIT else limit
                try:
                    image = Image.open(path)
                    if page:
                        image.seek(page)
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            with image:
                yield image
        except UnidentifiedImageError as error:
            reason = "cannot be read (neither OpenSlide nor Pillow knows the format)"
            raise SlideError(reason, where=path, remedy=UNREADABLE) from error
        except Image.DecompressionBombError as error:
            reason = "too large to load whole, by Pillow's limit"
            raise SlideError(reason, where=path, remedy=PYRAMID) from error
        except MemoryError as error:
            raise MachineError("not enough memory to load it whole", where=path, remedy=PYRAMID) from error


def _check_size(path: Path, size_px: tuple[int, int], max_pixels: int) -> None:
    width, height = size_px
    if width * height > max_pixels:
        raise SlideError(
            f"too large to load whole: {width}×{height} px are {width * height / 1e6:,.1f} million, "
            f"the limit is {max_pixels / 1e6:,.1f} million",
            where=path,
            remedy=f"{PYRAMID}, or raise the limit with `dirl tile --max-pixels` or "
            "`dirl embed --max-pixels`",
        )


class ImageSlide:
    """A plain image, loaded whole at the first read.

    `mpp_override` is in µm/px. It is required except for OME-TIFF and tiled TIFF: the dots per inch of other
    plain images are rarely right. `max_pixels` is that of `open_image`.
    """

    def __init__(
        self, path: Path, slide_id: str, mpp_override: float | None = None, max_pixels: int | None = None
    ) -> None:
        self._image = open_image(path, max_pixels)
        mpp = overridden_mpp(mpp_override, _resolution(self._image)) if mpp_override else _mpp(self._image)
        patient_id, centre = tcga_origin(path.name)
        self.info = SlideInfo(slide_id, path, patient_id, self._image.size_px, mpp, (1.0,), centre)

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
        return self._image.pixels()


def _resolution(image: PlainImage) -> tuple[float, float] | None:
    """Width and height of a pixel in µm by an OME description or by a tiled TIFF; None if neither."""
    if image.tiff is None:
        return None
    return image.tiff.ome_resolution or (image.tiff.resolution if image.tiff.tiled else None)


def _mpp(image: PlainImage) -> float:
    if image.tiff is None or not (image.tiff.ome_resolution or image.tiff.tiled):
        raise SlideError("a plain image gives no resolution (mpp)", where=image.path, remedy=MPP_REMEDY)
    return checked_mpp(image.path, _resolution(image))
