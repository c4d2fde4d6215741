"""HoVer-Net's JSON: ``{"mag": 40, "nuc": {"1": {"contour": …, "type": 3, …}}}``, of a slide or an image.

``mag`` is the objective power at which a slide was segmented; for an image it is null.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dirl.cells.files.polygon_nuclei import unique_ids
from dirl.cells.files.tool_nuclei import ToolNuclei, class_names, type_names
from dirl.cells.geometry.contours import contour_polygons, expanded_to_pixels, fitting_scale
from dirl.core.errors import ConfigError

# µm/px of an objective of 40; scanners differ from it by less than a factor of √2.
MPP_40 = 0.25
REMEDY = "bring the JSON that HoVer-Net's run_infer.py writes"


@dataclass(frozen=True)
class HoVerNetNucleus:
    """One nucleus of a file: its number, contour and type as in the file."""

    number: str
    contour: Any
    type: Any


@dataclass(frozen=True)
class HoVerNetFile:
    """The content of a file.

    Attributes
    ----------
    nuclei
        The nuclei.
    magnification
        Objective power; None if the file does not state one.
    entries
        Number of entries, also those that are not nuclei.
    """

    nuclei: Sequence[HoVerNetNucleus]
    magnification: float | None
    entries: int


def is_hovernet(content: Any) -> bool:
    """Whether the content of a JSON file has HoVer-Net's layout."""
    return isinstance(content, dict) and isinstance(content.get("nuc"), dict)


def parse_hovernet(content: Mapping[str, Any]) -> HoVerNetFile:
    """Parse the content of a file with HoVer-Net's layout."""
    nuclei = [
        HoVerNetNucleus(number, one.get("contour"), one.get("type"))
        for number, one in content["nuc"].items()
        if isinstance(one, dict)
    ]
    return HoVerNetFile(nuclei, _magnification(content.get("mag")), len(content["nuc"]))


def hovernet_nuclei(
    content: Mapping[str, Any], file: Path, size_px: tuple[int, int], mpp: float, file_mpp: float | None
) -> ToolNuclei:
    """Read the nuclei of a file, with the file's ids.

    The slide's objective power is assumed to be 40 at 0.25 µm/px, and half of it for every doubling.

    Parameters
    ----------
    content
        Content of the file; see `is_hovernet`.
    file
        File, for messages. Its folder, or the one above, may hold a ``type_info.json``.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    file_mpp
        µm/px of the file's coordinates, if the user states it.

    Raises
    ------
    ConfigError
        If there are nuclei, and none has a contour.
    """
    parsed = parse_hovernet(content)
    raw, of = contour_polygons([one.contour for one in parsed.nuclei])
    scale = 1.0
    if file_mpp is not None:
        scale = file_mpp / mpp
    elif parsed.magnification is not None:
        first = 40 / 2.0 ** round(np.log2(mpp / MPP_40)) / parsed.magnification
        scale = fitting_scale((first, 1.0, first / 2), raw, size_px)
    shapes, kept = expanded_to_pixels(raw, np.zeros(2), scale)
    if parsed.nuclei and not len(shapes):
        reason = f"has no contour of a nucleus, but {len(parsed.nuclei)} without one"
        raise ConfigError(reason, where=file, remedy=REMEDY)
    nuclei = [parsed.nuclei[i] for i in of[kept].tolist()]
    count = len(shapes)
    unscaled = parsed.magnification is None and file_mpp is None
    notes = {
        f"nuclei scaled to level 0 by a factor of {scale:g}": count * (scale != 1),
        "nuclei of a file without a magnification, read as pixels of the image": count * unscaled,
        "nuclei without a valid contour, left out": parsed.entries - count,
    }
    return ToolNuclei(
        shapes,
        unique_ids([_id(one.number) for one in nuclei]),
        class_names([one.type for one in nuclei], type_names(file) | {"0": ""}),
        {note: number for note, number in notes.items() if number},
        tool="HoVer-Net",
        from_bounds=False,
    )


def _id(name: str) -> int | None:
    number = int(name) if name.isdecimal() and len(name) < 10 else 0
    return number or None


def _magnification(stated: Any) -> float | None:
    """Read a number, or its text, as ``"40"`` or ``"40x"``."""
    try:
        number = float(str(stated).lower().removesuffix("x"))
    except ValueError:
        return None
    return number if 0 < number < 1000 and not isinstance(stated, bool) else None
