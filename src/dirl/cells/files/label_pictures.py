"""Pictures of numbers: PNG, TIFF, or NPZ with the array ``labels`` (or only one array)."""

import json
import math
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dirl.cells.files.matching import INSTANSEG
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError

SUFFIXES = (".png", ".tif", ".tiff", ".npz")
TIFF = (".tif", ".tiff")
SAVE_PIXELS = "save one integer per pixel, 0 for the background, as 16-bit PNG, TIFF or NPZ"
# These take 4 GB as int32. A map of a whole slide of 15 mm at 0.5 µm/px is smaller.
LARGEST_PX = 1_000_000_000
# Bytes of pixels per byte of a file: Deflate packs a map without nuclei by 1,000, Zstd by 10,000.
MOST_PACKED = 20_000
# Versions of the header that numpy.save writes for plain arrays. The third is for named fields.
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def read_picture(file: Path) -> tuple[NDArray[Any], dict[int, str]]:
    """Read the array of a file, of any shape and type, and names of its values if it holds them.

    Raises
    ------
    ConfigError
        If the file cannot be read, or has more than `LARGEST_PX` pixels.
    """
    if file.suffix.lower() == ".npz":
        return _from_npz(file)
    return (_from_tiff(file) if file.suffix.lower() in TIFF else _from_image(file)), {}


def _reading(file: Path) -> AbstractContextManager[None]:
    return parsing(file, remedy=SAVE_PIXELS, kind=ConfigError, what="cannot be read as labels")


def _check_size(shape: Sequence[int], file: Path, *, may_be_empty: bool = False) -> None:
    """Check the size of an array, before it takes memory."""
    if not math.prod(shape) and not may_be_empty:
        raise ConfigError("holds no pixels", where=file, remedy=SAVE_PIXELS)
    if math.prod(shape) > LARGEST_PX:
        raise ConfigError(
            f"has {'×'.join(map(str, shape))} pixels; a map may have {LARGEST_PX:,}",
            where=file,
            remedy="save the map at a coarser resolution, or a map for each tile",
        )


def _check_packing(size: int, file: Path) -> None:
    """Check that a file can hold the bytes that its header states, at any compression."""
    if size > MOST_PACKED * file.stat().st_size:
        raise ConfigError(f"is too small for {size} bytes of pixels", where=file, remedy=SAVE_PIXELS)


def _from_npz(file: Path) -> tuple[NDArray[Any], dict[int, str]]:
    with _reading(file), zipfile.ZipFile(file) as archive:
        inside = [name.removesuffix(".npy") for name in archive.namelist()]
    name = "labels" if "labels" in inside else inside[0] if inside else "labels"
    if not inside or (name != "labels" and len(inside) > 1):
        names = ", ".join(inside) or "nothing"
        raise ConfigError(
            f"cannot be read as labels (it holds {names}, and none of these is called labels)",
            where=file,
            remedy=SAVE_PIXELS,
        )
    labels = _array(file, name)
    if "classes" not in inside:
        return labels, {}
    classes = _array(file, "classes").ravel().tolist()
    ids = np.unique(labels[labels != 0]).tolist()
    if len(ids) != len(classes):
        raise ConfigError(
            f"cannot be read as labels (it names {len(classes)} classes for {len(ids)} nuclei)",
            where=file,
            remedy="save one class for each nucleus, in the order of their ids",
        )
    return labels, {i: str(name) for i, name in zip(ids, classes, strict=True)}


def _array(file: Path, name: str) -> NDArray[Any]:
    with _reading(file), zipfile.ZipFile(file) as archive:
        with archive.open(f"{name}.npy") as member:
            shape, _, _ = HEADERS[np.lib.format.read_magic(member)](member)
        _check_size(shape, file, may_be_empty=name == "classes")  # an image without nuclei has no classes
        with archive.open(f"{name}.npy") as member:
            return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


def _from_tiff(file: Path) -> NDArray[Any]:
    with _reading(file):
        try:
            with tifffile.TiffFile(file) as tiff:
                first, *others = (series.shape for series in tiff.series)
                if first in others:
                    raise ConfigError("holds several images", where=file, remedy=SAVE_PIXELS)
                _check_size(first, file)
                _check_packing(math.prod(first) * tiff.series[0].dtype.itemsize, file)
                if sum(tiff.pages.first.databytecounts) > file.stat().st_size:
                    raise ConfigError("is smaller than its header states", where=file, remedy=SAVE_PIXELS)
                labels = np.asarray(tiff.asarray())
        except ValueError:
            # tifffile leaves some compressions to another package.
            return _from_image(file)
    # InstanSeg writes the nuclei first, and then the cells around them.
    return labels[0] if len(labels) == 2 and file.stem.endswith(INSTANSEG) else labels


def _from_image(file: Path) -> NDArray[Any]:
    with _reading(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                return np.asarray(image)
        except Image.DecompressionBombError:
            raise ConfigError(
                "is too large to be read as a picture",
                where=file,
                remedy="save the map as TIFF or NPZ, or at a coarser resolution",
            ) from None


def read_names(file: Path) -> dict[int, str]:
    """Read names of classes by number from a JSON file; none if there is no file."""
    if not file.is_file():
        return {}
    with parsing(
        file, remedy='write {"1": "tumour", "2": "stroma"}', kind=ConfigError, what="names no classes"
    ):
        named = json.loads(file.read_text(encoding="utf-8"))
        return {int(i): str(name) for i, name in named.items()}
