"""From polygons in level-0 pixels to the nuclei of an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.area_check import NUCLEUS_UM2, check_areas
from dirl.cells.files.geojson_features import EXPORT
from dirl.cells.geometry.rasterize import rasterizer
from dirl.cells.source import FileNuclei, Frame
from dirl.core.errors import ConfigError


def unique_ids(stated: Sequence[int | None]) -> NDArray[np.int32]:
    """Return ids, shape (n,): the stated ones, and new ones for those that are None or repeated."""
    ids = np.zeros(len(stated), np.int32)
    used: set[int] = set()
    for i, number in enumerate(stated):
        if number is not None and number not in used:
            ids[i] = number
            used.add(number)
    new = np.flatnonzero(ids == 0)
    ids[new] = max(used, default=0) + 1 + np.arange(len(new))
    return ids


def centres_of(shapes: NDArray[Any]) -> NDArray[np.float64]:
    """Return the centroids x, y of shapes (n,), shape (n, 2)."""
    return np.asarray(shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2))


def moved(shapes: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Move shapes from a frame to level-0 pixels."""
    if not any(frame.offset_px) or not len(shapes):
        return shapes
    return np.asarray(shapely.transform(shapes, lambda at: at + frame.offset_px))


def nuclei_from_polygons(
    shapes: NDArray[Any],
    ids: NDArray[np.int32],
    classes: Sequence[str | None],
    notes: Mapping[str, int],
    file: Path,
    size_px: tuple[int, int],
    mpp: float,
    frame: Frame | None = None,
) -> FileNuclei:
    """Make nuclei of polygons; leave out and count those outside of the image.

    Parameters
    ----------
    shapes : ndarray of shape (n,)
        Valid polygons and multipolygons with an area, in pixels of the image.
    ids : ndarray of shape (n,)
        Id of each.
    classes
        Name of each one's class, or None.
    notes
        Counts of what was left out so far.
    file
        File, for messages.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    frame
        The origin of the coordinates, if a file may have several.

    Raises
    ------
    ConfigError
        If there are polygons, and all lie outside, or their coordinates are in µm.
    """
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
        notes = {**notes, "outside the image": int(outside.sum())}
    inside = np.flatnonzero(~outside)
    shapes, boxes, ids = shapes[inside], boxes[inside], ids[inside]
    centres = centres_of(shapes)
    return FileNuclei(
        ids=ids,
        x=centres[:, 0],
        y=centres[:, 1],
        area_px=shapely.area(shapes),
        touches_border=(boxes[:, :2] <= 0).any(1) | (boxes[:, 2:] >= size_px).any(1),
        classes=[classes[i] for i in inside.tolist()],
        cut=rasterizer(ids, shapes).cut,
        notes=notes,
        frame=frame,
    )


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
