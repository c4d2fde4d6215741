"""Outlines of nuclei from contours through the centres of their outermost pixels.

HoVer-Net and CellViT write such contours, with OpenCV's ``findContours``. A square of 3 × 3 pixels has a
contour of 2 × 2, and the centre of pixel 0 lies at 0.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.geometry.polygons import polygon, repaired

# Right angles stay sharp, and a sharper tip is cut before it reaches the next pixel.
MITRE = 1.5


def contour_polygons(contours: Sequence[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Make polygons (m,) of the contours of a file, points x, y; return also the index of each one's contour.

    Other values are skipped. The polygons may cross themselves.
    """
    rings = [_flat(ring) for ring in contours]
    drawn = [(i, one) for i, ring in enumerate(rings) if (one := polygon([ring])) is not None]
    return np.array([one for _, one in drawn], object), np.array([i for i, _ in drawn], np.int64)


def _flat(ring: Any) -> Any:
    """Points of a contour; OpenCV puts each into a list of its own."""
    if isinstance(ring, list) and all(isinstance(one, list) and len(one) == 1 for one in ring):
        return [one[0] for one in ring]
    return ring


def expanded_to_pixels(
    shapes: NDArray[Any], shift: NDArray[np.float64], scale: float, pixel: float = 1.0
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Scale contours to level 0, and expand each by half a pixel, so that it surrounds its pixels.

    Contours whose coordinates are not all integers run along the edges of pixels, and are not expanded. The
    shift, (n, 2) or (2,), is added to x and y first. `scale` is level-0 pixels per pixel of the file, and
    `pixel` the side of a pixel of the segmented image, in the file's pixels.

    Return valid polygons and multipolygons with an area, shape (m,), in level-0 pixels, and the index of each
    in `shapes`. The others have no area, or cross themselves so that it is not clear.
    """
    if not len(shapes):
        return shapes, np.zeros(0, np.int64)
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    half = pixel / 2 if (points == np.round(points)).all() else 0.0
    moved = points + np.broadcast_to(shift, (len(shapes), 2))[owner] + half
    found = shapely.set_coordinates(shapes.copy(), moved * scale)
    for i in np.flatnonzero(~shapely.is_valid(found)).tolist():
        found[i] = repaired(found[i])
    if half:
        found = shapely.buffer(found, half * scale, join_style="mitre", mitre_limit=MITRE)
    kept = np.flatnonzero(shapely.area(found) > 0)
    return found[kept], kept


def box_ellipses(boxes: NDArray[np.float64], corners: int = 24) -> NDArray[Any]:
    """Return the ellipse in each box, shape (n,), given left, top, right and bottom, shape (n, 4)."""
    angle = np.arange(corners) * (2 * np.pi / corners)
    # Scaled so that the polygon has the area of the ellipse.
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) / np.sqrt(np.sinc(2 / corners))
    middle, radius = (boxes[:, 2:] + boxes[:, :2]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    return np.asarray(shapely.polygons(middle[:, None] + radius[:, None] * circle))


def fitting_scale(scales: Sequence[float], shapes: NDArray[Any], size_px: tuple[int, int]) -> float:
    """Return the first scale at which nearly all shapes (n,) lie in an image, or else the first scale."""
    ends = shapely.bounds(shapes).reshape(-1, 4)[:, 2:]
    for scale in scales:
        if len(ends) and (ends * scale <= np.array(size_px) * 1.01 + 1).all(1).mean() >= 0.99:
            return scale
    return scales[0]
