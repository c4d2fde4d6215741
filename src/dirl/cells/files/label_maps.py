"""Nuclei from instance maps: ``labels:DIR``, a picture of ids for each slide or for each tile."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.area_check import REGIONS, are_regions, check_areas
from dirl.cells.files.label_map_files import SUFFIXES, read_map
from dirl.cells.files.label_map_places import place_map
from dirl.cells.files.matching import source_files
from dirl.cells.files.options import check_frame, check_mpp, check_place
from dirl.cells.source import FileNuclei, PixelGrid
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

# Increased whenever the same file is read in another way.
RULES = 2


@dataclass(frozen=True)
class LabelMaps:
    """Instance maps in a folder, named after slides or tiles; see `dirl.cells.files.matching.source_files`.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store. Maps are PNG, TIFF, or NPZ with the array ``labels``
        (or only one array). Classes are named by ``classes`` in the NPZ, one per nucleus in the order of the
        ids, or by ``NAME.json`` next to the file, ``{"id": "class"}``.
    mpp
        µm/px of the maps. By default a map covers its slide or tile, and the sizes give its resolution.
    frame
        Area that a map covers on a slide that QuPath crops: ``auto``, ``qupath``, or ``level0`` for the whole
        slide; see `dirl.cells.files.label_map_places.place_map`.
    """

    place: str
    mpp: float | None = None
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        check_frame(self.frame, f"labels:{self.place}")
        check_mpp(self.mpp, f"labels:{self.place}")

    @property
    def digest(self) -> str:
        """Digest of the settings and of the way of reading."""
        return digest({"source": "labels", "mpp": self.mpp, "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the maps of a slide; see `dirl.cells.source.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> FileNuclei:
        """Read the map of an image; see `dirl.cells.source.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> FileNuclei:
        """Read the map of a slide; see `dirl.cells.source.FramedSource`."""
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
