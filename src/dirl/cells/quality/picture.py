"""A picture of the nuclei that were found on a slide."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from dirl.cells.base import Image
from dirl.core.files import replacing

ENLARGE = 2
SIDE_PX = 640
COLUMNS = 4
COLOUR = (255, 230, 0)


def draw_nuclei(path: Path, images: Sequence[Image], labels: Sequence[NDArray[np.int32]]) -> None:
    """Write a PNG of the centres of equal images (h, w, 3), with the outlines of their labels (h, w)."""
    outlined = [_outline(_centre(rgb), _centre(ids)) for rgb, ids in zip(images, labels, strict=True)]
    outlined += [np.full_like(outlined[0], 255)] * (-len(outlined) % min(COLUMNS, len(outlined)))
    step = min(COLUMNS, len(outlined))
    rows = [np.hstack(outlined[i : i + step]) for i in range(0, len(outlined), step)]
    data = io.BytesIO()
    Pillow.fromarray(np.vstack(rows)).save(data, "PNG", compress_level=1)
    with replacing(path) as temporary:
        temporary.write_bytes(data.getvalue())


def _outline(rgb: Image, labels: NDArray[np.int32]) -> Image:
    """Outline nuclei in an enlarged image, where a line hides less of them."""
    rgb, labels = _enlarged(rgb), _enlarged(labels)
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    rgb[edge] = COLOUR
    return rgb


def _centre(values: NDArray[Any]) -> NDArray[Any]:
    top, left = (max(0, (side - SIDE_PX) // 2) for side in values.shape[:2])
    return values[top : top + SIDE_PX, left : left + SIDE_PX]


def _enlarged(values: NDArray[Any]) -> NDArray[Any]:
    return values.repeat(ENLARGE, 0).repeat(ENLARGE, 1)
