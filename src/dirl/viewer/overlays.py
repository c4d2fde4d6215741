"""Overlays of a picture: coloured attention, tissue, and the outlines of nuclei."""

import io
from functools import cache
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from dirl.slides.base import Slide
from dirl.slides.tissue import find_tissue
from dirl.store.dataset import CellStore

PALETTES = ("inferno", "viridis", "magma", "cividis", "turbo")  # for attention and measures
TISSUE_COLOUR = (64, 200, 140)
FILL_ALPHA, EDGE_ALPHA = 46, 230
# Tolerance of simplified outlines, in pixels of the tile: less than the steps of a mask.
TOLERANCE_PX = 0.6


@cache
def palette(name: str) -> NDArray[np.uint8]:
    """Colours from the lowest to the highest value, uint8 (256, 3)."""
    return np.asarray(colormaps[name](np.arange(256), bytes=True)[:, :3], np.uint8)


def to_hex(name: str) -> list[str]:
    """`palette` as hexadecimal colours for the page."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette(name).tolist()]


def colour(values: NDArray[np.float32], name: str, low: float, high: float) -> NDArray[np.uint8]:
    """Colour values (h, w) between `low` and `high`, uint8 (h, w, 4); NaN becomes transparent."""
    finite = np.isfinite(values)
    share = (np.where(finite, values, low) - low) / max(high - low, 1e-30)
    rgba = np.empty((*values.shape, 4), np.uint8)
    rgba[..., :3] = palette(name)[np.clip(np.rint(255 * share), 0, 255).astype(np.uint8)]
    rgba[..., 3] = np.where(finite, 255, 0)
    return rgba


def tissue_png(slide: Slide) -> bytes:
    """Tissue of a whole slide as a PNG of about 8 µm/px: tinted with its edge drawn, the rest transparent."""
    mask = find_tissue(slide).mask
    edge = mask & ~ndimage.binary_erosion(mask, border_value=1)
    rgba = np.zeros((*mask.shape, 4), np.uint8)
    rgba[..., :3] = TISSUE_COLOUR
    rgba[..., 3] = np.where(edge, EDGE_ALPHA, np.where(mask, FILL_ALPHA, 0))
    return to_png(rgba)


def to_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an image of shape (h, w, 4) as PNG, fast rather than small."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", compress_level=1)
    return data.getvalue()


def outline_nuclei(labels: NDArray[np.int32]) -> dict[int, list[NDArray[np.float64]]]:
    """Outline every nucleus of a tile from its instance labels (h, w), 0 without a nucleus.

    Returns lines by id, of shape (p, 2), x and y in pixels of the tile. A line ends at the edge of the tile,
    so the parts of a nucleus in two tiles join.
    """
    boxes = ndimage.find_objects(labels)
    found: dict[int, list[NDArray[np.float64]]] = {}
    for label, box in enumerate(boxes, 1):
        if box is None:
            continue
        top, left = (max(0, side.start - 1) for side in box)
        mask = labels[top : box[0].stop + 1, left : box[1].stop + 1] == label
        if min(mask.shape) < 2:
            continue
        lines = [
            approximate_polygon(line, TOLERANCE_PX)  # type: ignore[no-untyped-call]
            for line in find_contours(mask, 0.5)  # type: ignore[no-untyped-call]
        ]
        found[label] = [line[:, ::-1] + (left + 0.5, top + 0.5) for line in lines]
    return found


def tile_nuclei(cells: CellStore, i: int, classes: NDArray[np.int16]) -> list[dict[str, Any]]:
    """Nuclei of tile `i` as ``id``, ``class`` and ``lines``.

    A line is x, y, x, y… in tenths of a pixel of the tile. `classes` are those of `nucleus_classes`, which
    give a class its number; -1 is no class.
    """
    numbers, ids = cells.numbers(i)
    return [
        {
            "id": (label := int(ids[number])),
            "class": int(classes[label]) if label < len(classes) else -1,
            "lines": [np.rint(10 * line).astype(int).ravel().tolist() for line in lines],
        }
        for number, lines in outline_nuclei(numbers).items()
    ]


def nucleus_classes(cells: CellStore, slide_id: str) -> tuple[list[str], NDArray[np.int16]]:
    """Sorted names of the classes in a slide, and the class number of each nucleus id, -1 without a class."""
    table = cells.nuclei(slide_id, ["id", "class"])
    ids, named = table["id"].to_numpy(), table["class"].to_pylist()
    names = sorted({name for name in named if name is not None})
    number = {name: i for i, name in enumerate(names)}
    classes = np.full(int(ids.max(initial=0)) + 1, -1, np.int16)
    classes[ids] = [number.get(name, -1) for name in named]
    return names, classes
