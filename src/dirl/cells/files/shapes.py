"""Outlines from the numbers of a file: what has an area is mended and sorted, what has none is left out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dirl.core.boundary import parsing
from dirl.core.errors import DirlError

# No image has coordinates beyond, and what they are multiplied with stays finite.
MOST_PX = 2.0**31
# A crossing that changes the area by a larger share leaves open which side is the inside.
UNCLEAR = 0.1
# Parts of one nucleus lie within this length, and with no wider gap between them.
NUCLEUS_UM, GAP_UM = 30.0, 2.0
# What is smaller is no nucleus, but a crumb of the one beside it.
CRUMB_UM2 = 4.0
# An outline around so many others, and so many times as large as their median, is no nucleus.
MANY = 3


def polygon(rings: Any) -> Any | None:
    """Polygon of rings as a file holds them.

    Parameters
    ----------
    rings
        Outline and holes, each a sequence of points (x, y, …) in pixels, closed or not. May be anything.

    Returns
    -------
    shapely.Polygon or None
        It may cross itself; see `mended`. None where the rings are none, or not finite.
    """
    try:
        with parsing("an outline", remedy="draw it again"):
            lines = [np.asarray(ring, np.float64)[:, :2] for ring in rings]
            if not all((np.abs(line) < MOST_PX).all() for line in lines):  # false for NaN, too
                return None
            return shapely.Polygon(lines[0], lines[1:])
    except DirlError:
        return None


def mended(shape: Any) -> Any | None:
    """Make an outline valid.

    Returns
    -------
    shapely.Polygon, shapely.MultiPolygon or None
        None where a part crosses itself so that it is open what lies inside, as in a figure of eight.
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


def one_nucleus(parts: Sequence[Any], mpp: float) -> bool:
    """Whether the polygons of one object are a nucleus in parts, not a collection of nuclei.

    They are where all lie within `NUCLEUS_UM`, and each can be reached from each over gaps of at most
    `GAP_UM`.

    Parameters
    ----------
    parts
        Polygons in pixels, which may cross themselves.
    mpp
        µm/px.
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
    """Nuclei that the polygons of one object are: one in parts, or a collection.

    In a collection each part is a nucleus, but for crumbs, valid ones smaller than `CRUMB_UM2`: they belong
    to the nearest larger part within `GAP_UM`, where there is one.

    Parameters
    ----------
    parts
        Polygons in pixels, which may cross themselves.
    mpp
        µm/px.
    collection
        Whether they are known to be one, however close the parts lie.

    Returns
    -------
    list of shapely.Polygon and shapely.MultiPolygon
        In the order of the parts.
    """
    if not collection and one_nucleus(parts, mpp):
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
    """Which valid outlines, shape (n,), are regions, since they hold the centres of many others.

    Such an outline holds at least `MANY` centres, and is `MANY` times as large as the median of those.
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
