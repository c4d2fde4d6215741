"""The regions with the most attention, as annotations for QuPath."""

import json
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from dirl.maps.grid import MapGrid
from dirl.slides.qupath_frame import mark

Floats = NDArray[np.float32]

TOP_SHARE = 0.05
LEAST_TOKENS = 4
MOST_REGIONS = 50
COLOUR = [213, 94, 0]
NAMESPACE = uuid.UUID("c1c1f0f6-3a0c-4f2e-9f0e-2f8a7b1d5e90")
RULE = (
    f"tokens above the {1 - TOP_SHARE:.0%} quantile of the mapped ones that share a side, at least "
    f"{LEAST_TOKENS} of them; the {MOST_REGIONS} regions with the most attention together"
)


@dataclass(frozen=True)
class Region:
    """Neighbouring tokens with much attention: their number, and their mean and largest value.

    `rings` are the outline and the holes, closed, each an array (k, 2) of x and y in tokens.
    """

    rings: list[NDArray[np.float64]]
    tokens: int
    mean: float
    top: float


def top_regions(values: Floats) -> tuple[float | None, list[Region]]:
    """Return the threshold and the regions of `RULE`, the one with the most attention first.

    `values` is a channel of the map, (rows, columns), NaN where nothing is mapped. A flat map gives None and
    no regions.
    """
    threshold = float(np.nanquantile(values, 1 - TOP_SHARE))
    labels, count = ndimage.label(values > threshold)
    if not count:
        return None, []
    numbers = np.arange(1, count + 1)
    tokens = ndimage.sum_labels(labels > 0, labels, numbers)
    sums = ndimage.sum_labels(values, labels, numbers)
    tops = ndimage.maximum(values, labels, numbers)
    boxes = ndimage.find_objects(labels)
    order = [i for i in np.argsort(-sums, kind="stable") if tokens[i] >= LEAST_TOKENS][:MOST_REGIONS]
    return threshold, [
        Region(
            trace_polygon(labels[boxes[i]] == i + 1, boxes[i][1].start, boxes[i][0].start),
            int(tokens[i]),
            float(sums[i] / tokens[i]),
            float(tops[i]),
        )
        for i in order
    ]


def trace_polygon(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[NDArray[np.float64]]:
    """Trace a mask, connected over the sides of its pixels: the outline first, then its holes.

    A ring is an array (k, 2) of x and y of corners, plus `left` and `top`; its last corner is the first
    again. No ring touches itself, not even at a corner. Rings touch each other only at corners, so they form
    a valid polygon. With y upwards, the outline runs counterclockwise and its holes clockwise.
    """
    rings = []
    for line in find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="low"):  # type: ignore[no-untyped-call]
        # Marching squares pass through the middle of every side, where one coordinate ends in .5. A corner
        # lies between two sides of different direction: the horizontal one gives its row, the vertical one
        # its column.
        (y, x), (next_y, next_x) = line[:-1].T, np.roll(line[:-1], -1, axis=0).T
        flat, next_flat = y % 1 == 0.5, next_y % 1 == 0.5
        corners = np.where(flat, [next_x, y], [x, next_y]).T
        rings += _loops(corners[flat != next_flat] + (left - 0.5, top - 0.5))
    rings.sort(key=lambda ring: -np.ptp(ring, axis=0).prod())
    return [ring if (_area(ring) > 0) == (i == 0) else ring[::-1] for i, ring in enumerate(rings)]


def _loops(corners: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Split a closed line where it touches itself. Its last corner is not the first again."""
    loops: list[NDArray[np.float64]] = []
    line: list[tuple[float, ...]] = []
    at: dict[tuple[float, ...], int] = {}  # where in the line each corner lies
    for corner in map(tuple, corners.tolist()):
        if corner in at:
            start = at[corner]
            loops.append(np.array([*line[start:], corner]))
            for gone in line[start + 1 :]:
                del at[gone]
            del line[start + 1 :]
        else:
            at[corner] = len(line)
            line.append(corner)
    return [*loops, np.array([*line, line[0]])]


def _area(ring: NDArray[np.float64]) -> float:
    """Area that a ring encloses, negative where it runs clockwise (y up)."""
    x, y = ring.T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def to_geojson(regions: list[Region], grid: MapGrid, unit: str, slide_id: str) -> dict[str, Any]:
    """Return regions as a FeatureCollection of QuPath annotations, in level-0 pixels from the map's corner.

    This is also the corner in QuPath. The member ``dirl`` holds its place on the slide.
    """
    features = []
    for number, region in enumerate(regions, 1):
        rings = [(ring * grid.token_level0_px).round(2).tolist() for ring in region.rings]
        properties = {
            "objectType": "annotation",
            "name": f"attention {number}",
            "classification": {"name": "Top attention", "color": COLOUR},
            "isLocked": True,
            "measurements": {
                f"mean {unit}": region.mean,
                f"max {unit}": region.top,
                "area µm^2": region.tokens * grid.token_um**2,
            },
        }
        geometry = {"type": "Polygon", "coordinates": rings}
        # QuPath needs a UUID. The same region with the same values always has the same.
        content = json.dumps([slide_id, geometry, properties], sort_keys=True)
        name = str(uuid.uuid5(NAMESPACE, content))
        features.append({"type": "Feature", "id": name, "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", **mark(grid.origin_px), "features": features}
