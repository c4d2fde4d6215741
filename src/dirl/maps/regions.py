"""Where a map is highest, as annotations that QuPath opens."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from dirl.maps.grid import MapGrid

Floats = NDArray[np.float32]

TOP_SHARE = 0.05
LEAST_TOKENS = 4
MOST_REGIONS = 50
COLOUR = [213, 94, 0]
RULE = (
    f"tokens above the {1 - TOP_SHARE:.0%} quantile of the mapped ones that share a side, at least "
    f"{LEAST_TOKENS} of them; the {MOST_REGIONS} regions with the most attention together"
)


@dataclass(frozen=True)
class Region:
    """Neighbouring tokens with much attention.

    Attributes
    ----------
    rings
        Outline and holes, each an array (k, 2) of x and y in tokens, closed, along the tokens' sides.
    tokens
        How many there are.
    mean, top
        Mean and largest value in it.
    """

    rings: list[NDArray[np.float64]]
    tokens: int
    mean: float
    top: float


def top_regions(values: Floats) -> tuple[float | None, list[Region]]:
    """Find the regions by `RULE`, the one with the most attention first.

    Parameters
    ----------
    values : ndarray of shape (rows, columns)
        A map's channel; NaN where there is nothing.

    Returns
    -------
    threshold, regions
        None and no regions where the map is flat.
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
            outlines(labels[boxes[i]] == i + 1, boxes[i][1].start, boxes[i][0].start),
            int(tokens[i]),
            float(sums[i] / tokens[i]),
            float(tops[i]),
        )
        for i in order
    ]


def outlines(mask: NDArray[np.bool_], left: int = 0, top: int = 0) -> list[NDArray[np.float64]]:
    """Trace a connected mask along the sides of its pixels: the outline first, then its holes.

    Returns
    -------
    list of ndarray of shape (k, 2)
        x and y of corners, the last one being the first; `left` and `top` are added.
    """
    rings = []
    for line in find_contours(np.pad(mask, 1).astype(float), 0.5, fully_connected="low"):  # type: ignore[no-untyped-call]
        # Marching squares pass through the middle of every side, where one coordinate ends in a half. A
        # corner lies between two sides of different direction: its row is the flat side's, its column the
        # upright one's.
        (y, x), (next_y, next_x) = line[:-1].T, np.roll(line[:-1], -1, axis=0).T
        flat, next_flat = y % 1 == 0.5, next_y % 1 == 0.5
        corners = np.where(flat, [next_x, y], [x, next_y]).T
        ring = corners[flat != next_flat] + (left - 0.5, top - 0.5)
        rings.append(np.vstack([ring, ring[:1]]))
    return sorted(rings, key=lambda ring: -np.ptp(ring, axis=0).prod())


def to_geojson(regions: list[Region], grid: MapGrid, unit: str) -> dict[str, Any]:
    """Put regions as a FeatureCollection of QuPath annotations, in level-0 pixels."""
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
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    return {"type": "FeatureCollection", "features": features}
