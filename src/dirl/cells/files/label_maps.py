"""Nuclei from instance maps: ``labels:DIR``, a picture of ids for each slide or for each tile."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.area_check import REGIONS, are_regions, check_areas
from dirl.cells.files.folder_source import FolderSource
from dirl.cells.files.frames import FRAMES, AskedFrame, place_map
from dirl.cells.files.label_map_checks import check_instances
from dirl.cells.files.label_pictures import SUFFIXES, read_names, read_picture
from dirl.cells.files.matching import classes_file
from dirl.cells.source import FileNuclei, Frame, PixelGrid
from dirl.slides.base import Box


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
        scale, frame = self.place_on(labels.shape, size_px, mpp, bounds, file)
        labels, notes = _without_regions(labels, scale * mpp)
        inside = np.flatnonzero(labels)
        ids, which, areas = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
        check_areas(areas.astype(np.float64) * (scale * mpp) ** 2, mpp, file)
        rows, columns = np.divmod(inside, labels.shape[1])
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
            cut=partial(cut_pixels, labels, scale, frame.offset_px),
            notes=notes,
            frame=frame,
        )

    def place_on(
        self, shape: tuple[int, ...], size_px: tuple[int, int], mpp: float, bounds: Box | None, file: Path
    ) -> tuple[float, Frame]:
        """Return the pixels of an image per pixel of its map (h, w), and the frame; see `place_map`."""
        known = None if self.mpp is None else self.mpp / mpp
        height, width = shape
        return place_map((width, height), size_px, bounds or (0, 0, *size_px), known, self.frame, file)


def _without_regions(labels: NDArray[np.int32], mpp: float) -> tuple[NDArray[np.int32], dict[str, int]]:
    """Set the ids of regions to 0, and count them."""
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    regions = ids[are_regions(areas.astype(np.float64) * mpp**2)]
    if not len(regions):
        return labels, {}
    return np.where(np.isin(labels, regions), np.int32(0), labels), {f"ids {REGIONS}": len(regions)}


def cut_pixels(
    labels: NDArray[np.int32], scale: float, corner: tuple[float, float], grid: PixelGrid
) -> NDArray[np.int32]:
    """Values (side, side) of a map (h, w) at the centres of a grid's pixels; 0 outside of the map.

    A pixel of the map has `scale` pixels of the image, and the map begins at its pixel `corner` (x, y).
    """
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
        If the file cannot be read, or does not hold one id of a nucleus per pixel; see `read_picture`.
    """
    labels, names = read_picture(file)
    return check_instances(labels, file), names | read_names(classes_file(file))
