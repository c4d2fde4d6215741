"""The user's own instance maps: ``labels:DIR``, a picture of ids for each slide or for each tile."""

import json
import warnings
import zipfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from dirl.card import digest
from dirl.cells.own_files import Grid, OwnNuclei, check_place, classes_file, source_files
from dirl.errors import ConfigError
from dirl.slides.slide import SAME_MPP
from dirl.store.dataset import TileStore

SUFFIXES = (".png", ".tif", ".tiff", ".npz")
TIFF = (".tif", ".tiff")
SAVE_IDS = "save one id per nucleus, 0 between them, as 16-bit PNG, TIFF or NPZ"
LARGEST_ID = np.iinfo(np.int32).max


@dataclass(frozen=True)
class LabelMaps:
    """Instance maps in a folder, named as slides or tiles are; see `dirl.cells.own_files.source_files`.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide: PNG, TIFF, or NPZ with the array ``labels`` (or one
        array only). Classes: ``classes`` in the NPZ, one per nucleus in the order of their ids, or
        ``NAME.json`` beside the file, ``{"id": "class"}``.
    mpp
        µm/px of the maps. By default a map covers its slide or tile, and its resolution follows from the
        sizes.
    """

    place: str
    mpp: float | None = None

    def __post_init__(self) -> None:
        check_place(self.place)
        if self.mpp is not None and not (isinstance(self.mpp, int | float) and self.mpp > 0):
            raise ConfigError(
                f"mpp {self.mpp!r} is no number above 0", where=f"labels:{self.place}", remedy="mpp=0.25"
            )

    @property
    def digest(self) -> str:
        """Changes with the stated resolution."""
        return digest({"source": "labels", "mpp": self.mpp})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the maps of a slide; see `dirl.cells.own_files.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a map; see `dirl.cells.own_files.CellSource`."""
        labels, names = read_map(file)
        scale = _scale(labels, size_px, None if self.mpp is None else self.mpp / mpp, file)
        inside = np.flatnonzero(labels)
        ids, which, areas = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
        rows, columns = np.divmod(inside, labels.shape[1])
        y, x = (np.bincount(which, side, len(ids)) / areas + 0.5 for side in (rows, columns))
        edges = np.concatenate([labels[[0, -1]].ravel(), labels[:, [0, -1]].ravel()])
        return OwnNuclei(
            ids=ids.astype(np.int32),
            x=x * scale,
            y=y * scale,
            area_px=areas.astype(np.float64) * scale**2,
            touches_border=np.isin(ids, edges),
            classes=[names.get(i) for i in ids.tolist()],
            cut=partial(_cut, labels, scale),
        )


def read_map(file: Path) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Read an instance map (h, w), and the class of each id that has one.

    Raises
    ------
    ConfigError
        If the file cannot be read, or does not hold one number of a nucleus per pixel.
    """
    try:
        if file.suffix.lower() == ".npz":
            labels, names = _from_npz(file)
        elif file.suffix.lower() in TIFF:
            labels, names = _from_tiff(file), {}
        else:
            labels, names = _from_image(file), {}
    except (OSError, ValueError, SyntaxError, zipfile.BadZipFile) as error:
        raise ConfigError(f"cannot be read as labels ({error})", where=file, remedy=SAVE_IDS) from None
    except Image.DecompressionBombError:
        raise ConfigError(
            "too large a picture to be read as one",
            where=file,
            remedy="save the map as TIFF or NPZ, or at a coarser resolution",
        ) from None
    return _checked(labels, file), names | _from_json(classes_file(file))


def _from_npz(file: Path) -> tuple[NDArray[Any], dict[int, str]]:
    with np.load(file, allow_pickle=False) as arrays:
        name = "labels" if "labels" in arrays.files else arrays.files[0]
        if name != "labels" and len(arrays.files) > 1:
            raise ValueError(f"it holds {', '.join(arrays.files)}, and none is called labels")
        labels = arrays[name]
        if "classes" not in arrays.files:
            return labels, {}
        classes = arrays["classes"].ravel().tolist()
    ids = np.unique(labels[labels != 0]).tolist()
    if len(ids) != len(classes):
        raise ValueError(f"it names {len(classes)} classes for {len(ids)} nuclei")
    return labels, {i: str(name) for i, name in zip(ids, classes, strict=True)}


def _from_tiff(file: Path) -> NDArray[Any]:
    try:
        return np.asarray(tifffile.imread(file))
    except ValueError:
        # Compressions that tifffile leaves to another package.
        return _from_image(file)


def _from_image(file: Path) -> NDArray[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(file) as image:
            return np.asarray(image)


def _from_json(file: Path) -> dict[int, str]:
    if not file.is_file():
        return {}
    try:
        named = json.loads(file.read_text(encoding="utf-8"))
        return {int(i): str(name) for i, name in named.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"names no classes ({error})", where=file, remedy='write {"1": "tumour", "2": "stroma"}'
        ) from None


def _checked(labels: NDArray[Any], file: Path) -> NDArray[np.int32]:
    """Refuse what is no instance map."""
    if labels.ndim == 3 and labels.shape[-1] in (3, 4):
        raise ConfigError("a colour picture, not instance ids", where=file, remedy=SAVE_IDS)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} of shape {labels.shape}"
        raise ConfigError(f"instance ids are one integer per pixel, not {what}", where=file, remedy=SAVE_IDS)
    if labels.size and (labels.min() < 0 or labels.max() > LARGEST_ID):
        raise ConfigError(
            f"ids reach from {labels.min()} to {labels.max()}; they must lie in 0..{LARGEST_ID}",
            where=file,
            remedy="number the nuclei anew, for example with skimage.segmentation.relabel_sequential",
        )
    labels = labels.astype(np.int32, copy=False)
    there = np.unique(labels)
    if len(there[there > 0]) == 1 and ndimage.label(labels)[1] > 2:
        raise ConfigError(
            "many separate areas under one id: a mask, not instance ids",
            where=file,
            remedy="number its parts, for example with skimage.measure.label",
        )
    return labels


def _scale(labels: NDArray[np.int32], size_px: tuple[int, int], stated: float | None, file: Path) -> float:
    """Pixels of the image per pixel of the map."""
    height, width = labels.shape
    sizes = ((size_px[0], width), (size_px[1], height))
    scale = size_px[0] / max(width, 1) if stated is None else stated
    whole = round(scale)
    # A map made at an nth of the size may have lost the last, incomplete pixel of each line.
    if stated is None and whole and all(abs(n - m * whole) < whole for n, m in sizes):
        scale = float(whole)
    if not all(abs(n - m * scale) <= max(scale, SAME_MPP * n) for n, m in sizes):
        at = "" if stated is None else f" at {stated:g} times its pixels"
        raise ConfigError(
            f"{width}×{height} px{at} do not cover the image of {size_px[0]}×{size_px[1]} px",
            where=file,
            remedy="a map must cover the whole slide or tile; state its resolution with mpp= if it is known",
        )
    return scale


def _cut(labels: NDArray[np.int32], scale: float, grid: Grid) -> NDArray[np.int32]:
    rows, columns = (
        np.floor((first + np.arange(grid.side) + 0.5) * (grid.step / scale)).astype(np.int64)
        for first in (grid.row, grid.column)
    )
    height, width = labels.shape
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    return np.asarray(labels[rows.clip(0, height - 1)[:, None], columns.clip(0, width - 1)] * inside)
