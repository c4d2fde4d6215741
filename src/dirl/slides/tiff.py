"""TIFF files: which image is the slide, where its channels are, and how many bits they have."""

import html
import logging
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from dirl.core.boundary import parsing
from dirl.core.errors import DirlWarning, SlideError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UNREADABLE = "copy or export the slide again, or leave it out"
AS_RGB = "export it as 8-bit RGB"
DEPTHS = (8, 10, 12, 14, 16)
MAXIMUM_TAGS = ("MaxSampleValue", "SMaxSampleValue")
# Without this, tifffile would print its own message beside dirl's error.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
UM_PER_UNIT = {2: 25_400.0, 3: 10_000.0}  # inch, centimetre
# Units of an OME description. Unicode has two signs for micro.
UM_PER_OME_UNIT = {"\u00b5m": 1.0, "\u03bcm": 1.0, "um": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
COLOURS = ("RGB", "YCBCR", "MINISBLACK", "MINISWHITE", "PALETTE", "SEPARATED")


@dataclass(frozen=True)
class TiffImage:
    """An image of a TIFF file.

    Attributes
    ----------
    path
        The file.
    size_px
        Width and height.
    pages
        Numbers of its pages: one, or one each for red, green and blue.
    dtype
        Type of a channel's values, ``uint8``, ``bool`` or ``uint16``.
    bits
        Number of used bits of 16, if the file gives it.
    tiled
        Whether it is stored in tiles, as slides are.
    resolution
        Width and height of a pixel in µm, if the file's tags give them.
    ome_resolution
        The same from the file's OME description.
    orientation
        EXIF's number for how viewers turn it; 1 is not at all. It is read as it is stored.
    """

    path: Path
    size_px: tuple[int, int]
    pages: tuple[int, ...]
    dtype: str
    bits: int | None
    tiled: bool
    resolution: tuple[float, float] | None
    ome_resolution: tuple[float, float] | None = None
    orientation: int = 1

    def deep_pixels(self, *, guess: bool) -> NDArray[np.uint8]:
        """Pixels of an image of 16 bits a channel, scaled to 8 by the number of used bits: uint8 (h, w, 3).

        If the file does not give the number of bits, `guess` estimates it from the brightest pixel, with a
        warning. Otherwise it is a `SlideError`, as an image that cannot be decoded or is black.
        """
        with (
            parsing(self.path, remedy=AS_RGB, kind=SlideError, what="cannot be read"),
            tifffile.TiffFile(self.path, _multifile=False) as tiff,
        ):
            planes = [tiff.pages[page].asarray() for page in self.pages]
        values = np.stack(planes, axis=-1) if len(planes) == 3 else planes[0]
        if values.shape[0] == 3 and values.shape[-1] != 3:
            values = np.moveaxis(values, 0, -1)
        brightest = int(values.max())
        if brightest == 0:
            raise SlideError("every pixel is black", where=self.path, remedy=AS_RGB)
        used = next(bits for bits in DEPTHS if brightest < 2**bits)
        if self.bits is None and used < 16:
            reason = f"has 16 bits a channel, but the brightest pixel uses {used}"
            if not guess:
                raise SlideError(reason, where=self.path, remedy=AS_RGB)
            warnings.warn(
                f"{self.path}: {reason}; read as {used} bits and scaled to 8",
                category=DirlWarning,
                stacklevel=2,
            )
        largest = 2 ** max(used, self.bits or 0) - 1
        scaled = np.arange(2**16) * (255 / largest)
        return np.asarray(np.minimum(scaled + 0.5, 255).astype(np.uint8)[values])


@dataclass(frozen=True)
class _Series:
    """Images of one size, as tifffile groups the pages of a file."""

    sizes: dict[str, int]
    dtype: str
    photometric: str
    pages: tuple[int, ...]
    tiled: bool
    tags: dict[str, object]

    @property
    def area(self) -> int:
        return self.sizes.get("X", 0) * self.sizes.get("Y", 0)

    @property
    def images(self) -> int:
        """Number of images, without channels."""
        return int(np.prod([n for axis, n in self.sizes.items() if axis not in "XYSC"]))


def is_tiff(path: Path) -> bool:
    """Whether a file starts like a TIFF."""
    with path.open("rb") as handle:
        return handle.read(4) in MAGIC


def largest_image(path: Path) -> TiffImage:
    """Find the largest image of a TIFF file: the first page may be a small picture of the slide.

    A `SlideError` tells that the file cannot be read, or that its channels are not red, green and blue.
    """
    with (
        parsing(path, remedy=UNREADABLE, kind=SlideError, what="cannot be read"),
        # An OME description may name other files. They are not read.
        tifffile.TiffFile(path, _multifile=False) as tiff,
    ):
        series = [_series(one) for one in tiff.series if len(one.pages)]
        description = tiff.ome_metadata or ""
    area = max((one.area for one in series), default=0)
    if area == 0:
        raise SlideError("cannot be read (it contains no image)", where=path, remedy=UNREADABLE)
    same = [one for one in series if one.area == area]
    image = same[0]
    pages, several = image.pages[:1], sum(one.images for one in same) > 1
    channels = image.sizes.get("C", 1)
    samples = image.sizes.get("S", 1)
    if channels == 3 and samples == 1 and image.images == 1 and len(image.pages) == 3:
        pages = image.pages
    elif channels > 1:
        raise SlideError(f"has {channels} channels, not red, green and blue", where=path, remedy=AS_RGB)
    elif several and samples == 1 and image.photometric != "PALETTE":
        raise SlideError("contains several grey images of one size, not RGB", where=path, remedy=AS_RGB)
    elif several:
        warnings.warn(
            f"{path}: contains several images of one size; the first is used",
            category=DirlWarning,
            stacklevel=2,
        )
    if image.photometric not in COLOURS:
        raise SlideError(f"has colours of type {image.photometric}, not RGB", where=path, remedy=AS_RGB)
    _check_depth(path, image, samples if len(pages) == 1 else 3)
    size = image.sizes["X"], image.sizes["Y"]
    orientation = int(image.tags.get("Orientation", 1))  # type: ignore[call-overload]
    warn_of_turn(path, orientation)
    return TiffImage(
        path,
        size,
        pages,
        image.dtype,
        _used_bits(image.tags, description),
        image.tiled,
        _resolution(image.tags),
        ome_resolution(description, size),
        orientation,
    )


def warn_of_turn(path: Path, orientation: int) -> None:
    """Warn of an image that viewers turn or mirror by EXIF's number; dirl reads it as it is stored."""
    if orientation not in (0, 1):
        warnings.warn(
            f"{path}: viewers turn or mirror it (orientation {orientation}); it is read as it is stored",
            category=DirlWarning,
            stacklevel=3,
        )


def ome_resolution(description: str, size_px: tuple[int, int]) -> tuple[float, float] | None:
    """Width and height of a pixel in µm, from the OME description of the image of this size."""
    for pixels in re.findall(r"<(?:\w+:)?Pixels\b[^>]*>", description):
        given = {name: html.unescape(value) for name, value in re.findall(r'(\w+)="([^"]*)"', pixels)}
        if (given.get("SizeX"), given.get("SizeY")) != tuple(map(str, size_px)):
            continue
        try:
            x, y = (
                float(given[name]) * UM_PER_OME_UNIT[given.get(f"{name}Unit", "um")]
                for name in ("PhysicalSizeX", "PhysicalSizeY")
            )
        except (KeyError, ValueError):  # missing, or in a unit such as pixels
            return None
        return (x, y) if np.isfinite([x, y]).all() and min(x, y) > 0 else None
    return None


def _series(one: tifffile.TiffPageSeries) -> _Series:
    key = one.keyframe
    sizes = dict(zip(one.axes, one.shape, strict=True))
    wanted = (*MAXIMUM_TAGS, "Orientation", "XResolution", "YResolution", "ResolutionUnit")
    tags = {name: key.tags[name].value for name in wanted if name in key.tags}
    pages = tuple(page.index for page in one.pages if page is not None)
    return _Series(
        sizes, str(one.dtype), tifffile.PHOTOMETRIC(key.photometric).name, pages, key.is_tiled, tags
    )


def _check_depth(path: Path, image: _Series, channels: int) -> None:
    deep = image.dtype == "uint16" and channels == 3 and image.photometric in {"RGB", "MINISBLACK"}
    if not deep and image.dtype not in {"uint8", "bool"}:
        reason = f"is not an 8-bit image ({channels} channels of {image.dtype}, {image.photometric})"
        raise SlideError(reason, where=path, remedy=AS_RGB)


def _used_bits(tags: dict[str, object], description: str) -> int | None:
    """Number of used bits of a channel, from the file's tags or its OME description."""
    for name in MAXIMUM_TAGS:
        largest = int(np.max(np.asarray(tags.get(name, 0), float)))
        if largest > 0:
            return largest.bit_length()
    found = re.search(r'SignificantBits="(\d{1,2})"', description)
    return int(found.group(1)) if found else None


def _resolution(tags: dict[str, object]) -> tuple[float, float] | None:
    unit = UM_PER_UNIT.get(int(tags.get("ResolutionUnit", 2)))  # type: ignore[call-overload]
    x, y = (tags.get(f"{axis}Resolution") for axis in "XY")
    if unit is None or not (isinstance(x, tuple) and isinstance(y, tuple)) or not all((*x, *y)):
        return None
    return unit * x[1] / x[0], unit * y[1] / y[0]
