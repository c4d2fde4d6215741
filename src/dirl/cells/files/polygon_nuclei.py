"""Nuclei as polygons, and their place on an image: what all readers of outlines share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.area_check import NUCLEUS_UM2, check_areas
from dirl.cells.files.frames import AskedFrame, choose_frame
from dirl.cells.files.geojson_features import EXPORT
from dirl.cells.geometry.rasterize import Rasterizer, rasterizer
from dirl.cells.source import FileNuclei, Frame
from dirl.core.errors import ConfigError
from dirl.slides.base import Box


@dataclass(frozen=True)
class PolygonNuclei:
    """The nuclei of one file, in pixels of level 0, or of the tile for ready-made tiles.

    Attributes
    ----------
    shapes
        Valid polygons and multipolygons with an area, shape (n,).
    ids
        Id of each, int32 of shape (n,), from 1, unique.
    classes
        Name of each one's class, or None.
    notes
        Counts of what was scaled, repaired or left out, by reason.
    in_qupath
        Whether the coordinates begin at the corner of QuPath's image, and not at the slide's corner. The
        file's marks tell this, or its tool.
    offset_px
        Offset of QuPath's frame that the file states; see `dirl.slides.qupath_frame.marked_offset`.
    tool
        Name of the tool that tells `in_qupath`; None if the file's marks tell.
    """

    shapes: NDArray[Any]
    ids: NDArray[np.int32]
    classes: Sequence[str | None]
    notes: Mapping[str, int]
    in_qupath: bool = False
    offset_px: tuple[float, float] | None = None
    tool: str | None = None

    def on_slide(
        self, asked: AskedFrame, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None
    ) -> FileNuclei:
        """Place the nuclei on a slide that QuPath crops to `bounds`, in the frame that the user asks for."""
        shown = bounds or (0, 0, *size_px)
        frame = choose_frame(
            asked,
            centres=_centres(self.shapes),
            size_px=size_px,
            bounds=shown,
            marked=self.offset_px,
            in_qupath=self.in_qupath,
            tool=self.tool,
        )
        return replace(self, shapes=_moved(self.shapes, frame.offset_px)).on_image(file, size_px, mpp, frame)

    def on_image(
        self, file: Path, size_px: tuple[int, int], mpp: float, frame: Frame | None = None
    ) -> FileNuclei:
        """Place the nuclei on an image, where they are; leave out and count those outside of it.

        Raises
        ------
        ConfigError
            If there are polygons, and all lie outside, or their coordinates are in µm.
        """
        shapes, ids, notes = self.shapes, self.ids, {note: n for note, n in self.notes.items() if n}
        boxes = shapely.bounds(shapes).reshape(-1, 4)
        outside = (boxes[:, :2] >= size_px).any(1) | (boxes[:, 2:] <= 0).any(1)
        if len(shapes) and outside.all():
            objects = "the only object lies" if len(shapes) == 1 else f"all {len(shapes)} objects lie"
            raise ConfigError(
                f"{objects} outside the image of {size_px[0]}×{size_px[1]} px"
                + (f" in {frame}" if frame and any(frame.offset_px) else ""),
                where=file,
                remedy=f"write coordinates in pixels of level 0, as they are when exported {EXPORT}",
            )
        if len(shapes):
            _check_scale(shapes, size_px, mpp, file)
        if outside.any():
            notes["outside the image"] = int(outside.sum())
        inside = np.flatnonzero(~outside)
        shapes, boxes, ids = shapes[inside], boxes[inside], ids[inside]
        centres = _centres(shapes)
        return FileNuclei(
            ids=ids,
            x=centres[:, 0],
            y=centres[:, 1],
            area_px=shapely.area(shapes),
            touches_border=(boxes[:, :2] <= 0).any(1) | (boxes[:, 2:] >= size_px).any(1),
            classes=[self.classes[i] for i in inside.tolist()],
            cut=rasterizer(ids, shapes).cut,
            notes=notes,
            frame=frame,
        )

    def rasterizer(self) -> Rasterizer:
        """Prepare labels of the nuclei, at the offset that the file states."""
        return rasterizer(self.ids, _moved(self.shapes, self.offset_px or (0.0, 0.0)))


def unique_ids(wanted: Sequence[int | None]) -> NDArray[np.int32]:
    """Return ids, shape (n,): the wanted ones, and new ones for those that are None or repeated."""
    ids = np.zeros(len(wanted), np.int32)
    used: set[int] = set()
    for i, number in enumerate(wanted):
        if number is not None and number not in used:
            ids[i] = number
            used.add(number)
    new = np.flatnonzero(ids == 0)
    ids[new] = max(used, default=0) + 1 + np.arange(len(new))
    return ids


def _centres(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the centroids x, y of shapes (n,), shape (n, 2)."""
    return np.asarray(shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2))


def _moved(shapes: NDArray[Any], offset_px: tuple[float, float]) -> NDArray[Any]:
    if not any(offset_px) or not len(shapes):
        return shapes
    return np.asarray(shapely.transform(shapes, lambda at: at + offset_px))


def _check_scale(shapes: NDArray[Any], size_px: tuple[int, int], mpp: float, file: Path) -> None:
    """Check that coordinates are in level-0 pixels, and not in µm or in pixels of another resolution."""
    areas = shapely.area(shapes)
    area = float(np.median(areas))
    least, most = NUCLEUS_UM2
    if least <= area * mpp**2 <= most:
        return
    right, bottom = shapely.total_bounds(shapes)[2:]
    in_um = right <= size_px[0] * mpp * 1.01 and bottom <= size_px[1] * mpp * 1.01
    if mpp < 0.9 and in_um and least <= area <= most:
        raise ConfigError(
            f"coordinates look like µm: all objects lie in the first {right:.0f}×{bottom:.0f} of "
            f"{size_px[0]}×{size_px[1]} px, and their median area would be {area * mpp**2:.2g} µm²",
            where=file,
            remedy=f"write coordinates in pixels of level 0: divide them by {mpp:g}, or export them {EXPORT}",
        )
    check_areas(areas * mpp**2, mpp, file)
