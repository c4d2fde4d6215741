"""HoVer-Net's JSON: ``{"mag": 40, "nuc": {"1": {"contour": …, "type": 3, …}}}``, of a slide or an image.

``mag`` is the objective power at which a slide was segmented; for an image it is null.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dirl.cells.files.json_fields import class_names, type_names
from dirl.cells.files.polygon_nuclei import PolygonNuclei, unique_ids
from dirl.cells.geometry.contours import contour_polygons, expanded_to_pixels, fitting_scale
from dirl.core.errors import ConfigError

# µm/px of an objective of 40; scanners differ from it by less than a factor of √2.
MPP_40 = 0.25
REMEDY = "bring the JSON that HoVer-Net's run_infer.py writes"


def is_hovernet(content: Any) -> bool:
    """Whether the content of a JSON file has HoVer-Net's layout."""
    return isinstance(content, dict) and isinstance(content.get("nuc"), dict)


def read_hovernet(
    content: Mapping[str, Any], file: Path, size_px: tuple[int, int], mpp: float, file_mpp: float | None
) -> PolygonNuclei:
    """Read the nuclei of a file's content, with the file's ids, and scale them to an image of `mpp` µm/px.

    `file_mpp` is µm/px of the coordinates, if the user states it. Otherwise the slide's objective power is
    assumed to be 40 at 0.25 µm/px, and half of it for every doubling. The file's folder, or the one above,
    may hold a ``type_info.json``.

    Raises
    ------
    ConfigError
        If there are nuclei, and none has a contour.
    """
    entries = [(number, one) for number, one in content["nuc"].items() if isinstance(one, dict)]
    raw, of = contour_polygons([one.get("contour") for _, one in entries])
    magnification = _magnification(content.get("mag"))
    scale = 1.0
    if file_mpp is not None:
        scale = file_mpp / mpp
    elif magnification is not None:
        first = 40 / 2.0 ** round(np.log2(mpp / MPP_40)) / magnification
        scale = fitting_scale((first, 1.0, first / 2), raw, size_px)
    shapes, kept = expanded_to_pixels(raw, np.zeros(2), scale)
    if entries and not len(shapes):
        reason = f"has no contour of a nucleus, but {len(entries)} without one"
        raise ConfigError(reason, where=file, remedy=REMEDY)
    nuclei = [entries[i] for i in of[kept].tolist()]
    count = len(shapes)
    unscaled = magnification is None and file_mpp is None
    return PolygonNuclei(
        shapes,
        unique_ids([_id(number) for number, _ in nuclei]),
        class_names([one.get("type") for _, one in nuclei], type_names(file) | {"0": ""}),
        {
            f"nuclei scaled to level 0 by a factor of {scale:g}": count * (scale != 1),
            "nuclei of a file without a magnification, read as pixels of the image": count * unscaled,
            "nuclei without a valid contour, left out": len(content["nuc"]) - count,
        },
        tool="HoVer-Net",
    )


def _id(name: str) -> int | None:
    number = int(name) if name.isdecimal() and len(name) < 10 else 0
    return number or None


def _magnification(value: Any) -> float | None:
    """Read a number, or its text, as ``"40"`` or ``"40x"``."""
    try:
        number = float(str(value).lower().removesuffix("x"))
    except ValueError:
        return None
    return number if 0 < number < 1000 and not isinstance(value, bool) else None
