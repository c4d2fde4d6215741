"""Outlines in level-0 pixels as the nuclei of an image: those inside, and whether their sizes fit."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.area_check import NUCLEUS_UM2, check_areas
from dirl.cells.files.frames import Frame
from dirl.cells.files.matching import OwnNuclei
from dirl.cells.files.objects import EXPORT
from dirl.cells.files.polygons import outlines
from dirl.core.errors import ConfigError


def numbered(stated: Sequence[int | None]) -> NDArray[np.int32]:
    """Ids, shape (n,): those stated, where nothing else has the same; others follow on the largest."""
    ids = np.zeros(len(stated), np.int32)
    used: set[int] = set()
    for i, number in enumerate(stated):
        if number is not None and number not in used:
            ids[i] = number
            used.add(number)
    new = np.flatnonzero(ids == 0)
    ids[new] = max(used, default=0) + 1 + np.arange(len(new))
    return ids


def placed_nuclei(
    shapes: NDArray[Any],
    ids: NDArray[np.int32],
    classes: list[str | None],
    notes: Mapping[str, int],
    file: Path,
    size_px: tuple[int, int],
    mpp: float,
    frame: Frame | None = None,
) -> OwnNuclei:
    """Make nuclei of outlines, those outside of the image left out and counted.

    Parameters
    ----------
    shapes : ndarray of shape (n,)
        Valid polygons and multipolygons with an area, in pixels of the image.
    ids : ndarray of shape (n,)
        Number of each.
    classes
        Name of each one's class, or None.
    notes
        What was left out so far, counted.
    file
        Named in errors.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    frame
        What the coordinates were taken in, where a file may have several.

    Raises
    ------
    ConfigError
        If there are outlines, and all lie outside, or their coordinates are µm.
    """
    lines = shapely.bounds(shapes).reshape(-1, 4)
    outside = (lines[:, :2] >= size_px).any(1) | (lines[:, 2:] <= 0).any(1)
    if len(shapes) and outside.all():
        raise ConfigError(
            f"all {len(shapes)} objects lie outside the image of {size_px[0]}×{size_px[1]} px"
            + (f" in {frame}" if frame and any(frame.offset_px) else ""),
            where=file,
            remedy=f"coordinates are pixels of level 0, as they are when exported {EXPORT}",
        )
    if len(shapes):
        _check_scale(shapes, size_px, mpp, file)
    if outside.any():
        notes = {**notes, "outside the image": int(outside.sum())}
    inside = np.flatnonzero(~outside)
    shapes, lines, ids = shapes[inside], lines[inside], ids[inside]
    centres = shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2)
    return OwnNuclei(
        ids=ids,
        x=centres[:, 0],
        y=centres[:, 1],
        area_px=shapely.area(shapes),
        touches_border=(lines[:, :2] <= 0).any(1) | (lines[:, 2:] >= size_px).any(1),
        classes=[classes[i] for i in inside.tolist()],
        cut=outlines(ids, shapes).cut,
        notes=notes,
        frame=frame,
    )


def _check_scale(shapes: NDArray[Any], size_px: tuple[int, int], mpp: float, file: Path) -> None:
    """Tell coordinates in µm, or of another resolution, from those of level 0."""
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
            remedy=f"coordinates are pixels of level 0, so divide them by {mpp:g}, or export them {EXPORT}",
        )
    check_areas(areas * mpp**2, mpp, file)
