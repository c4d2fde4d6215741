"""Polygons from the coordinates of a file: repair, split into nuclei, and detection of regions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dirl.core.boundary import parsing
from dirl.core.errors import DirlError

# Largest coordinate: no image is larger, and products with it stay finite.
MOST_PX = 2.0**31
# If a repair changes the area by a larger share, the inside of a self-crossing outline is not clear.
UNCLEAR = 0.1
# Largest length of a nucleus in parts, and largest gap between its parts.
NUCLEUS_UM, GAP_UM = 30.0, 2.0
# A smaller part is a crumb of the nucleus next to it.
CRUMB_UM2 = 4.0
# A region holds this many nuclei, and is this many times as large as their median.
MANY = 3


def polygon(rings: Any) -> Any | None:
    """Make a polygon of the rings of a file: outline and holes, closed or not, of points (x, y, …) in pixels.

    It may cross itself; see `repaired`. None if the value, which can be any, is not rings of finite numbers.
    """
    try:
        with parsing("an outline", remedy="draw it again"):
            lines = [np.asarray(ring, np.float64)[:, :2] for ring in rings]
            if not all((np.abs(line) < MOST_PX).all() for line in lines):  # false for NaN, too
                return None
            return shapely.Polygon(lines[0], lines[1:])
    except DirlError:
        return None


def repaired(shape: Any) -> Any | None:
    """Make a polygon or multipolygon valid.

    None if a part crosses itself so that its inside is not clear, as in a figure of eight.
    """
    try:
        with parsing("an outline", remedy="draw it again"):
            found = []
            for part in shapely.get_parts(shape):
                pieces = shapely.get_parts(shapely.make_valid(part))
                whole = shapely.union_all([one for one in pieces if one.geom_type.endswith("Polygon")])
                before, after = part.area, whole.area
                if abs(before - after) > UNCLEAR * max(before, after):
                    return None
                found.append(whole)
            return shapely.union_all(found)
    except DirlError:
        return None


def is_one_nucleus(parts: Sequence[Any], mpp: float) -> bool:
    """Whether the polygons of one object are a nucleus in parts, and not a collection of nuclei.

    A nucleus lies within `NUCLEUS_UM`, and its parts are connected over gaps of at most `GAP_UM`. The parts
    are in pixels, and may cross themselves.
    """
    left, top, right, bottom = shapely.total_bounds(parts)
    if max(right - left, bottom - top) * mpp > NUCLEUS_UM:
        return False
    try:
        with parsing("an outline", remedy="draw it again"):
            near = shapely.STRtree(parts).query(parts, predicate="dwithin", distance=GAP_UM / mpp)
    except DirlError:
        return False
    links = coo_matrix((np.ones(near.shape[1]), near), shape=(len(parts), len(parts)))
    return bool(connected_components(links)[0] == 1)


def nuclei_of(parts: Sequence[Any], mpp: float, collection: bool = False) -> list[Any]:
    """Group the polygons of one object into nuclei: one nucleus in parts, or a collection.

    In a collection each part is a nucleus, except crumbs: valid parts smaller than `CRUMB_UM2`. A crumb
    belongs to the nearest larger part within `GAP_UM`, if there is one. With `collection`, parts that lie
    close together are a collection too. The nuclei have the order of the parts.
    """
    if not collection and is_one_nucleus(parts, mpp):
        return [shapely.multipolygons(parts)]
    polygons = np.array(parts, object)
    small = (shapely.area(polygons) * mpp**2 < CRUMB_UM2) & shapely.is_valid(polygons)
    groups = {i: [polygons[i]] for i in np.flatnonzero(~small).tolist()}
    crumbs, owner = np.flatnonzero(small), np.flatnonzero(~small)
    joined, larger = shapely.STRtree(polygons[owner]).query_nearest(
        polygons[crumbs], max_distance=GAP_UM / mpp, all_matches=False
    )
    for crumb, body in zip(crumbs[joined].tolist(), owner[larger].tolist(), strict=True):
        groups[body].append(polygons[crumb])
    alone = np.setdiff1d(crumbs, crumbs[joined]).tolist()
    groups |= {i: [polygons[i]] for i in alone}
    return [one[0] if len(one) == 1 else shapely.multipolygons(one) for _, one in sorted(groups.items())]


def around_many(shapes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask, shape (n,), of the valid polygons that are regions, since they hold many others.

    A region holds the centres of at least `MANY` others, and is `MANY` times as large as their median.
    """
    found = np.zeros(len(shapes), bool)
    if len(shapes) <= MANY:
        return found
    areas = shapely.area(shapes)
    holder, held = shapely.STRtree(shapely.centroid(shapes)).query(shapes, predicate="contains")
    others = holder != held
    holder, held = holder[others], held[others]
    for one in np.flatnonzero(np.bincount(holder, minlength=len(shapes)) >= MANY):
        found[one] = areas[one] >= MANY * np.median(areas[held[holder == one]])
    return found
