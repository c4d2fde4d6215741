"""Nuclei from instance maps: ``labels:DIR``, a picture of ids for each slide or for each tile."""

import json
import math
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dirl.cells.files.area_check import REGIONS, are_regions, check_areas
from dirl.cells.files.folder_source import FolderSource
from dirl.cells.files.frames import FRAMES, AskedFrame, place_map
from dirl.cells.files.label_map_checks import SAVE_IDS, check_instances
from dirl.cells.files.matching import INSTANSEG, classes_file
from dirl.cells.source import FileNuclei, PixelGrid
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.slides.base import Box

SUFFIXES = (".png", ".tif", ".tiff", ".npz")
TIFF = (".tif", ".tiff")
# These take 4 GB as int32. A map of a whole slide of 15 mm at 0.5 µm/px is smaller.
LARGEST_PX = 1_000_000_000
# Bytes of pixels per byte of a file: Deflate packs a map without nuclei by 1,000, Zstd by 10,000.
MOST_PACKED = 20_000
# Versions of the header that numpy.save writes for plain arrays. The third is for named fields.
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class LabelMaps(FolderSource):
    """Instance maps in a folder: PNG, TIFF, or NPZ with the array ``labels`` (or only one array).

    Classes are named by ``classes`` in the NPZ, one per nucleus in the order of the ids, or by ``NAME.json``
    next to the file, ``{"id": "class"}``.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store.
    frame
        Area that a map covers on a slide that QuPath crops: ``auto``, ``qupath``, or ``level0`` for the whole
        slide; see `dirl.cells.files.frames.place_map`.
    mpp
        µm/px of the maps. By default a map covers its slide or tile, and the sizes give its resolution.
    """

    name: ClassVar = "labels"
    suffixes: ClassVar = SUFFIXES
    rules: ClassVar = 2

    frame: AskedFrame = FRAMES[0]
    mpp: float | None = None

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the map of an image; see `dirl.cells.source.CellSource`."""
        labels, names = read_map(file)
        height, width = labels.shape
        known = None if self.mpp is None else self.mpp / mpp
        shown = bounds or (0, 0, *size_px)
        scale, frame = place_map((width, height), size_px, shown, known, self.frame, file)
        labels, notes = _without_regions(labels, scale * mpp)
        inside = np.flatnonzero(labels)
        ids, which, areas = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
        check_areas(areas.astype(np.float64) * (scale * mpp) ** 2, mpp, file)
        rows, columns = np.divmod(inside, width)
        y, x = (np.bincount(which, side, len(ids)) / areas + 0.5 for side in (rows, columns))
        edges = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
        left, top = frame.offset_px
        return FileNuclei(
            ids=ids.astype(np.int32),
            x=x * scale + left,
            y=y * scale + top,
            area_px=areas.astype(np.float64) * scale**2,
            touches_border=np.isin(ids, edges),
            classes=[names.get(i) for i in ids.tolist()],
            cut=partial(_cut, labels, scale, frame.offset_px),
            notes=notes,
            frame=frame,
        )


def _without_regions(labels: NDArray[np.int32], mpp: float) -> tuple[NDArray[np.int32], dict[str, int]]:
    """Set the ids of regions to 0, and count them."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    regions = ids[are_regions(areas.astype(np.float64) * mpp**2)]
    if not len(regions):
        return labels, {}
    return np.where(np.isin(labels, regions), np.int32(0), labels), {f"ids {REGIONS}": len(regions)}


def _cut(
    labels: NDArray[np.int32], scale: float, corner: tuple[float, float], grid: PixelGrid
) -> NDArray[np.int32]:
    left, top = corner
    rows, columns = (
        np.floor(((first + np.arange(grid.side) + 0.5) * grid.step - begin) / scale).astype(np.int64)
        for first, begin in ((grid.row, top), (grid.column, left))
    )
    height, width = labels.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.asarray(labels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)] * inside)


def read_map(file: Path) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Read an instance map (h, w), and the names of the classes by id.

    Raises
    ------
    ConfigError
        If the file cannot be read, has more than `LARGEST_PX` pixels, or does not hold one id of a nucleus
        per pixel.
    """
    names: dict[int, str] = {}
    if file.suffix.lower() == ".npz":
        labels, names = _from_npz(file)
    elif file.suffix.lower() in TIFF:
        labels = _from_tiff(file)
    else:
        labels = _from_image(file)
    return check_instances(labels, file), names | _from_json(classes_file(file))


def _reading(file: Path) -> AbstractContextManager[None]:
    return parsing(file, remedy=SAVE_IDS, kind=ConfigError, what="cannot be read as labels")


def _check_size(shape: Sequence[int], file: Path) -> None:
    """Check the size of a map, before it takes memory."""
    if not math.prod(shape):
        raise ConfigError("holds no pixels", where=file, remedy=SAVE_IDS)
    if math.prod(shape) > LARGEST_PX:
        raise ConfigError(
            f"has {'×'.join(map(str, shape))} pixels; a map may have {LARGEST_PX:,}",
            where=file,
            remedy="save the map at a coarser resolution, or a map for each tile",
        )


def _check_packing(size: int, file: Path) -> None:
    """Check that a file can hold the bytes that its header states, at any compression."""
    if size > MOST_PACKED * file.stat().st_size:
        raise ConfigError(f"is too small for {size} bytes of pixels", where=file, remedy=SAVE_IDS)


def _from_npz(file: Path) -> tuple[NDArray[Any], dict[int, str]]:
    with _reading(file), zipfile.ZipFile(file) as archive:
        inside = [name.removesuffix(".npy") for name in archive.namelist()]
    name = "labels" if "labels" in inside else inside[0] if inside else "labels"
    if not inside or (name != "labels" and len(inside) > 1):
        names = ", ".join(inside) or "nothing"
        raise ConfigError(
            f"cannot be read as labels (it holds {names}, and none of these is called labels)",
            where=file,
            remedy=SAVE_IDS,
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
        _check_size(shape, file)
        with archive.open(f"{name}.npy") as member:
            return np.asarray(np.lib.format.read_array(member, allow_pickle=False))


def _from_tiff(file: Path) -> NDArray[Any]:
    with _reading(file):
        try:
            with tifffile.TiffFile(file) as tiff:
                first, *others = (series.shape for series in tiff.series)
                if first in others:
                    raise ConfigError("holds several images", where=file, remedy=SAVE_IDS)
                _check_size(first, file)
                _check_packing(math.prod(first) * tiff.series[0].dtype.itemsize, file)
                if sum(tiff.pages.first.databytecounts) > file.stat().st_size:
                    raise ConfigError("is smaller than its header states", where=file, remedy=SAVE_IDS)
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


def _from_json(file: Path) -> dict[int, str]:
    if not file.is_file():
        return {}
    with parsing(
        file, remedy='write {"1": "tumour", "2": "stroma"}', kind=ConfigError, what="names no classes"
    ):
        named = json.loads(file.read_text(encoding="utf-8"))
        return {int(i): str(name) for i, name in named.items()}
