"""CellViT's JSON: ``cells.json``, with contours, and ``cell_detection.json``, with boxes only.

Both hold ``wsi_metadata``, ``type_map`` and ``cells``. CellViT counts from the corner of what was scanned, as
QuPath does. It may segment a slide at another resolution than level 0. Then CellViT writes pixels of that
resolution. CellViT++ brings contours back to level 0, but not ``offset_global``, the place of a cell's patch:
so contours that do not lie in their patches are at level 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.contours import box_ellipses, contour_polygons, fitting_scale, surrounding
from dirl.cells.files.tool_nuclei import ToolNuclei, class_names, clean
from dirl.core.errors import ConfigError
from dirl.slides.base import SAME_MPP

REMEDY = "bring the cells.json that CellViT writes"
PANNUKE = {"1": "Neoplastic", "2": "Inflammatory", "3": "Connective", "4": "Dead", "5": "Epithelial"}
# A nucleus may reach a little beyond its patch.
MARGIN_PX = 2.0
IN_PATCHES = 0.9


def is_cellvit(content: Any) -> bool:
    """Whether the content of a JSON file has CellViT's layout."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("cells"), list)
        and ("wsi_metadata" in content or "type_map" in content)
    )


def cellvit_nuclei(
    content: Mapping[str, Any], file: Path, size_px: tuple[int, int], mpp: float, file_mpp: float | None
) -> ToolNuclei:
    """Read the cells of a file; their ids are their places in it, from 1.

    Cells without contours are drawn as the ellipse of their box.

    Parameters
    ----------
    content
        Of the file; see `is_cellvit`.
    file
        Named in errors.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    file_mpp
        µm/px of the file's coordinates, where the user states it.

    Raises
    ------
    ConfigError
        If there are cells, and none has a contour or a box.
    """
    cells = [one if isinstance(one, dict) else {} for one in content["cells"]]
    boxes_only = not any("contour" in one for one in cells)
    raw, of = contour_polygons(
        [_box_ring(one.get("bbox")) if boxes_only else one.get("contour") for one in cells]
    )
    ratio = _ratio(content.get("wsi_metadata"))
    shift, scale, pixel = np.zeros((len(raw), 2)), 1.0, 1.0
    if file_mpp is not None:
        scale = file_mpp / mpp
    elif ratio is not None and abs(ratio - 1) > SAME_MPP and len(raw):
        shift, scale = _to_level0(
            content["wsi_metadata"], [cells[i] for i in of.tolist()], raw, ratio, size_px
        )
        pixel = ratio if scale == 1 else 1.0
    if boxes_only:
        raw = box_ellipses(shapely.bounds(raw).reshape(-1, 4))
    shapes, kept = surrounding(raw, shift, scale, pixel)
    if cells and not len(shapes):
        raise ConfigError(f"none of its {len(cells)} cells has a contour", where=file, remedy=REMEDY)
    owners = of[kept]
    count = len(shapes)
    notes = {
        f"nuclei brought to level 0 by a factor of {scale:g}": count * (scale != 1),
        "nuclei of a file that states no magnification, taken as pixels of level 0": count
        * (ratio is None and file_mpp is None),
        "nuclei without a contour, drawn as the ellipse of their box": count * boxes_only,
        "nuclei without a sound contour, left out": len(cells) - count,
    }
    return ToolNuclei(
        shapes,
        (owners + 1).astype(np.int32),
        class_names([cells[i].get("type") for i in owners.tolist()], _type_map(content.get("type_map"))),
        {note: number for note, number in notes.items() if number},
        from_bounds=True,
    )


def _type_map(stated: Any) -> Mapping[str, str]:
    """Names by number; CellViT writes ``{"Neoplastic": 1}``, CellViT++ ``{"1": "Neoplastic"}``."""
    if not isinstance(stated, dict) or not stated:
        return PANNUKE
    pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in stated.items()]
    return {str(number): "" if name == "Background" else clean(name) for number, name in pairs}


def _box_ring(box: Any) -> Any:
    """Corners of a box, which is rows and columns: ``[[top, left], [bottom, right]]``."""
    try:
        (top, left), (bottom, right) = box
    except (TypeError, ValueError):
        return None
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _ratio(meta: Any) -> float | None:
    """Level-0 pixels per pixel of the segmented image."""
    for over, under in (("base_magnification", "magnification"), ("target_patch_mpp", "base_mpp")):
        whole, part = _number(meta, over), _number(meta, under)
        if whole is not None and part is not None:
            return whole / part
    return _number(meta, "downsampling")


def _number(meta: Any, name: str) -> float | None:
    value = meta.get(name) if isinstance(meta, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return float(value) if 1e-3 < value < 1e6 else None


def _to_level0(
    meta: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    raw: NDArray[Any],
    ratio: float,
    size_px: tuple[int, int],
) -> tuple[NDArray[np.float64], float]:
    """What is added to the coordinates of each cell, shape (n, 2), and what they are multiplied with then."""
    unmoved = np.zeros((len(cells), 2))
    side, factor = _number(meta, "patch_size"), _number(meta, "downsampling")
    places = [_pair(one.get(name)) for one in cells for name in ("offset_global", "patch_coordinates")]
    points = shapely.get_coordinates(raw)
    if side is None or None in places:
        # CellViT++ multiplies boxes, too, and does not round them.
        whole = bool((points == np.round(points)).all())
        return unmoved, fitting_scale((ratio, 1.0) if whole else (1.0,), raw, size_px)
    # Rows before columns, as in the file.
    offset, patch = np.array(places, np.float64).reshape(-1, 2, 2).transpose(1, 0, 2)
    written, brought_back = (_share_in_patches(raw, offset, side, by) for by in (1.0, ratio))
    if max(written, brought_back) < IN_PATCHES:
        return unmoved, fitting_scale((ratio, 1.0), raw, size_px)
    if brought_back > written:
        return unmoved, 1.0
    # CellViT multiplies the patches' places by the downsampling, and not the places in them.
    inner = (patch + 0.5) * (_number(meta, "patch_overlap") or 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # a place of any size may be written
        mixed = factor is not None and np.abs(offset - (patch * side * factor - inner)).max() <= 1
    return ((patch * side - inner - offset)[:, ::-1] if mixed else unmoved), ratio


def _share_in_patches(raw: NDArray[Any], offset: NDArray[np.float64], side: float, ratio: float) -> float:
    """Share of cells that lie in patches at `offset`, rows before columns, in pixels so large."""
    local = shapely.bounds(raw) / ratio - np.tile(offset[:, ::-1], 2)
    return float(((local >= -MARGIN_PX) & (local <= side + MARGIN_PX)).all(1).mean())


def _pair(values: Any) -> tuple[float, float] | None:
    match values:
        case [int() | float() as first, int() | float() as second]:
            return float(first), float(second)
    return None
