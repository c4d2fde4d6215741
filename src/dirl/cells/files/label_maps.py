"""The user's own instance maps: ``labels:DIR``, a picture of ids for each slide or for each tile."""

import json
import math
import warnings
import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from dirl.cells.files.area_check import REGIONS, check_areas, regions_among
from dirl.cells.files.frames import check_frame
from dirl.cells.files.label_map_checks import SAVE_IDS, check_instances
from dirl.cells.files.label_map_places import place_map
from dirl.cells.files.matching import Grid, OwnNuclei, check_place, classes_file, source_files
from dirl.cells.files.tool_names import INSTANSEG
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

SUFFIXES = (".png", ".tif", ".tiff", ".npz")
TIFF = (".tif", ".tiff")
# Changes with what is read from the same file.
RULES = 2
# As int32 they take 4 GB; a map of a whole slide of 15 mm at 0.5 µm/px has fewer.
LARGEST_PX = 1_000_000_000
# Bytes of pixels in a byte of a file: Deflate packs a map without nuclei by 1,000, Zstd by 10,000.
MOST_PACKED = 20_000
# What numpy.save writes of plain arrays; its third version is for names of fields.
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class LabelMaps:
    """Instance maps in a folder, named as slides or tiles are; see `dirl.cells.files.matching.source_files`.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide: PNG, TIFF, or NPZ with the array ``labels`` (or one
        array only). Classes: ``classes`` in the NPZ, one per nucleus in the order of their ids, or
        ``NAME.json`` beside the file, ``{"id": "class"}``.
    mpp
        µm/px of the maps. By default a map covers its slide or tile, and its resolution follows from the
        sizes.
    frame
        What a map of a slide that QuPath crops covers: ``auto``, ``qupath`` or ``level0``, the whole slide;
        see `dirl.cells.files.label_map_places.place_map`.
    """

    place: str
    mpp: float | None = None
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        check_frame(self.frame, f"labels:{self.place}")
        if self.mpp is not None and not (isinstance(self.mpp, int | float) and self.mpp > 0):
            raise ConfigError(
                f"mpp {self.mpp!r} is no number above 0", where=f"labels:{self.place}", remedy="mpp=0.25"
            )

    @property
    def digest(self) -> str:
        """Digest of the settings, and of the rules of reading."""
        return digest({"source": "labels", "mpp": self.mpp, "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the maps of a slide; see `dirl.cells.files.matching.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a map; see `dirl.cells.files.matching.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> OwnNuclei:
        """Read a map of a slide; see `dirl.cells.files.matching.FramedSource`."""
        labels, names = read_map(file)
        height, width = labels.shape
        stated = None if self.mpp is None else self.mpp / mpp
        scale, frame = place_map((width, height), size_px, bounds, stated, self.frame, file)
        labels, notes = _without_regions(labels, scale * mpp)
        inside = np.flatnonzero(labels)
        ids, which, areas = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
        check_areas(areas.astype(np.float64) * (scale * mpp) ** 2, mpp, file)
        rows, columns = np.divmod(inside, width)
        y, x = (np.bincount(which, side, len(ids)) / areas + 0.5 for side in (rows, columns))
        edges = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
        left, top = frame.offset_px
        return OwnNuclei(
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


def read_map(file: Path) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Read an instance map (h, w), and the class of each id that has one.

    Raises
    ------
    ConfigError
        If the file cannot be read, claims more than `LARGEST_PX` pixels, or does not hold one number of a
        nucleus per pixel.
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
    """Refuse what would fill the memory, before any is taken, and what holds nothing."""
    if not math.prod(shape):
        raise ConfigError("holds no pixels", where=file, remedy=SAVE_IDS)
    if math.prod(shape) > LARGEST_PX:
        raise ConfigError(
            f"claims {'×'.join(map(str, shape))} pixels; a map may have {LARGEST_PX:,}",
            where=file,
            remedy="save the map at a coarser resolution, or a map for each tile",
        )


def _check_packing(claimed: int, file: Path) -> None:
    """Refuse a file that cannot hold what it claims, however it is packed."""
    if claimed > MOST_PACKED * file.stat().st_size:
        raise ConfigError(f"claims {claimed} bytes of pixels", where=file, remedy=SAVE_IDS)


def _from_npz(file: Path) -> tuple[NDArray[Any], dict[int, str]]:
    with _reading(file), zipfile.ZipFile(file) as archive:
        inside = [name.removesuffix(".npy") for name in archive.namelist()]
    name = "labels" if "labels" in inside else inside[0] if inside else "labels"
    if not inside or (name != "labels" and len(inside) > 1):
        names = ", ".join(inside) or "nothing"
        raise ConfigError(
            f"cannot be read as labels (it holds {names}, and none is called labels)",
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
                    raise ConfigError("claims more bytes than it has", where=file, remedy=SAVE_IDS)
                labels = np.asarray(tiff.asarray())
        except ValueError:
            # Compressions that tifffile leaves to another package.
            return _from_image(file)
    # InstanSeg's nuclei; the second plane holds the cells around them.
    return labels[0] if len(labels) == 2 and file.stem.endswith(INSTANSEG) else labels


def _from_image(file: Path) -> NDArray[Any]:
    with _reading(file), warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(file) as image:
                return np.asarray(image)
        except Image.DecompressionBombError:
            raise ConfigError(
                "too large a picture to be read as one",
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


def _without_regions(labels: NDArray[np.int32], mpp: float) -> tuple[NDArray[np.int32], dict[str, int]]:
    """Leave out ids of regions, and count them."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    regions = ids[regions_among(areas.astype(np.float64) * mpp**2)]
    if not len(regions):
        return labels, {}
    return np.where(np.isin(labels, regions), np.int32(0), labels), {f"ids {REGIONS}": len(regions)}


def _cut(
    labels: NDArray[np.int32], scale: float, corner: tuple[float, float], grid: Grid
) -> NDArray[np.int32]:
    left, top = corner
    rows, columns = (
        np.floor(((first + np.arange(grid.side) + 0.5) * grid.step - begin) / scale).astype(np.int64)
        for first, begin in ((grid.row, top), (grid.column, left))
    )
    height, width = labels.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.asarray(labels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)] * inside)
