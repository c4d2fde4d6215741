"""HoVer-Net's JSON: ``{"mag": 40, "nuc": {"1": {"contour": …, "type": 3, …}}}``, of a slide or of an image.

``mag`` is the objective power that a slide was segmented at; of an image it is null.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dirl.cells.files.contours import contour_polygons, fitting_scale, surrounding
from dirl.cells.files.placed import numbered
from dirl.cells.files.tool_nuclei import ToolNuclei, class_names, type_names
from dirl.core.errors import ConfigError

# µm/px of an objective of 40, up to what scanners make of it.
MPP_40 = 0.25
REMEDY = "bring the JSON that HoVer-Net's run_infer.py writes"


def is_hovernet(content: Any) -> bool:
    """Whether the content of a JSON file has HoVer-Net's layout."""
    return isinstance(content, dict) and isinstance(content.get("nuc"), dict)


def hovernet_nuclei(
    content: Mapping[str, Any], file: Path, size_px: tuple[int, int], mpp: float, file_mpp: float | None
) -> ToolNuclei:
    """Read the nuclei of a file.

    A slide's objective power is taken to be 40 at 0.25 µm/px, halved for every doubling. Ids are the file's.

    Parameters
    ----------
    content
        Of the file; see `is_hovernet`.
    file
        Named in errors; beside it, or a folder above, may lie a ``type_info.json``.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    file_mpp
        µm/px of the file's coordinates, where the user states it.

    Raises
    ------
    ConfigError
        If there are nuclei, and none has a contour.
    """
    entries = [(number, one) for number, one in content["nuc"].items() if isinstance(one, dict)]
    raw, of = contour_polygons([one.get("contour") for _, one in entries])
    mag = _number(content.get("mag"))
    stated = 0 < mag < 1000
    scale = 1.0
    if file_mpp is not None:
        scale = file_mpp / mpp
    elif stated:
        first = 40 / 2.0 ** round(np.log2(mpp / MPP_40)) / mag
        scale = fitting_scale((first, 1.0, first / 2), raw, size_px)
    shapes, kept = surrounding(raw, np.zeros(2), scale)
    if entries and not len(shapes):
        raise ConfigError(f"none of its {len(entries)} nuclei has a contour", where=file, remedy=REMEDY)
    nuclei = [entries[i] for i in of[kept].tolist()]
    count = len(shapes)
    notes = {
        f"nuclei brought to level 0 by a factor of {scale:g}": count * (scale != 1),
        "nuclei of a file that states no magnification, taken as pixels of the image": count
        * (not stated and file_mpp is None),
        "nuclei without a sound contour, left out": len(content["nuc"]) - count,
    }
    return ToolNuclei(
        shapes,
        numbered([_id(number) for number, _ in nuclei]),
        class_names([one.get("type") for _, one in nuclei], type_names(file) | {"0": ""}),
        {note: number for note, number in notes.items() if number},
        from_bounds=False,
    )


def _id(name: str) -> int | None:
    number = int(name) if name.isdecimal() and len(name) < 10 else 0
    return number or None


def _number(stated: Any) -> float:
    """Take a number, or its text, as ``"40"`` or ``"40x"``; NaN where it is none."""
    try:
        text = str(stated).lower().removesuffix("x")
        return np.nan if isinstance(stated, bool) else float(text)
    except ValueError:
        return np.nan
