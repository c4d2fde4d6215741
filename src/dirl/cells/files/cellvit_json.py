"""CellViT's JSON: ``cells.json`` with contours, and ``cell_detection.json`` with boxes only.

Both hold ``wsi_metadata``, ``type_map`` and ``cells``. Coordinates begin at the corner of the scanned area,
as QuPath's do. CellViT may segment a slide at another resolution than level 0, and then writes pixels of that
resolution. CellViT++ scales contours to level 0, but not ``offset_global``, the place of a cell's patch. So
contours that do not lie in their patches are at level 0.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.json_fields import class_names, clean, positive_number
from dirl.cells.files.polygon_nuclei import PolygonNuclei
from dirl.cells.geometry.contours import box_ellipses, contour_polygons, expanded_to_pixels, fitting_scale
from dirl.core.errors import ConfigError
from dirl.slides.base import SAME_MPP

REMEDY = "bring the cells.json that CellViT writes"
PANNUKE = {"1": "Neoplastic", "2": "Inflammatory", "3": "Connective", "4": "Dead", "5": "Epithelial"}
# A nucleus may reach this far beyond its patch.
MARGIN_PX = 2.0
# Least share of the cells in their patches, if contours and patches have the same resolution.
IN_PATCHES = 0.9

Members = Mapping[str, Any]


def is_cellvit(content: Any) -> bool:
    """Whether the content of a JSON file has CellViT's layout."""
    return (
        isinstance(content, dict)
        and isinstance(content.get("cells"), list)
        and ("wsi_metadata" in content or "type_map" in content)
    )


def read_cellvit(
    content: Mapping[str, Any], file: Path, size_px: tuple[int, int], mpp: float, file_mpp: float | None
) -> PolygonNuclei:
    """Read the cells of a file's content, and scale them to an image of `mpp` µm/px.

    Their ids are their positions in the file, from 1. Cells without contours are drawn as the ellipse of
    their box. `file_mpp` is µm/px of the coordinates, if the user states it.

    Raises
    ------
    ConfigError
        If there are cells, and none has a contour or a box.
    """
    cells: list[Members] = [one if isinstance(one, dict) else {} for one in content["cells"]]
    found = content.get("wsi_metadata")
    meta: Members = found if isinstance(found, dict) else {}
    ratio = _ratio(meta)
    boxes_only = not any("contour" in one for one in cells)
    raw, of = contour_polygons(
        [_box_ring(one.get("bbox")) if boxes_only else one.get("contour") for one in cells]
    )
    shift, scale, pixel = np.zeros((len(raw), 2)), 1.0, 1.0
    if file_mpp is not None:
        scale = file_mpp / mpp
    elif ratio is not None and abs(ratio - 1) > SAME_MPP and len(raw):
        shift, scale = _to_level0(meta, [cells[i] for i in of.tolist()], raw, ratio, size_px)
        pixel = ratio if scale == 1 else 1.0
    if boxes_only:
        raw = box_ellipses(shapely.bounds(raw).reshape(-1, 4))
    shapes, kept = expanded_to_pixels(raw, shift, scale, pixel)
    if cells and not len(shapes):
        reason = f"has no contour of a cell, but {len(cells)} without one"
        raise ConfigError(reason, where=file, remedy=REMEDY)
    owners = of[kept]
    count = len(shapes)
    unscaled = ratio is None and file_mpp is None
    return PolygonNuclei(
        shapes,
        (owners + 1).astype(np.int32),
        class_names([cells[i].get("type") for i in owners.tolist()], _type_names(content.get("type_map"))),
        {
            f"nuclei scaled to level 0 by a factor of {scale:g}": count * (scale != 1),
            "nuclei of a file without a magnification, read as pixels of level 0": count * unscaled,
            "nuclei without a contour, drawn as the ellipse of their box": count * boxes_only,
            "nuclei without a valid contour, left out": len(cells) - count,
        },
        in_qupath=True,
        tool="CellViT",
    )


def _type_names(found: Any) -> Mapping[str, str]:
    """Names by number. CellViT writes ``{"Neoplastic": 1}``, CellViT++ ``{"1": "Neoplastic"}``."""
    if not isinstance(found, dict) or not found:
        return PANNUKE
    pairs = [(value, key) if isinstance(value, int) else (key, value) for key, value in found.items()]
    return {str(number): "" if name == "Background" else clean(name) for number, name in pairs}


def _box_ring(box: Any) -> Any:
    """Corners of a box ``[[top, left], [bottom, right]]`` as points x, y."""
    try:
        (top, left), (bottom, right) = box
    except (TypeError, ValueError):
        return None
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _ratio(meta: Members) -> float | None:
    """Level-0 pixels per pixel of the segmented image."""
    for over, under in (("base_magnification", "magnification"), ("target_patch_mpp", "base_mpp")):
        whole, part = positive_number(meta.get(over)), positive_number(meta.get(under))
        if whole is not None and part is not None:
            return whole / part
    return positive_number(meta.get("downsampling"))


def _to_level0(
    meta: Members,
    cells: Sequence[Members],
    raw: NDArray[Any],
    ratio: float,
    size_px: tuple[int, int],
) -> tuple[NDArray[np.float64], float]:
    """Return the offset of each cell's coordinates, shape (n, 2), and the scale to apply after it."""
    unmoved = np.zeros((len(cells), 2))
    side, overlap, downsampling = (
        positive_number(meta.get(name)) for name in ("patch_size", "patch_overlap", "downsampling")
    )
    places = [_pair(one.get(name)) for one in cells for name in ("offset_global", "patch_coordinates")]
    points = shapely.get_coordinates(raw)
    if side is None or None in places:
        # CellViT++ scales boxes too, and does not round them.
        whole = bool((points == np.round(points)).all())
        return unmoved, fitting_scale((ratio, 1.0) if whole else (1.0,), raw, size_px)
    # Rows before columns, as in the file.
    offset, patch = np.array(places, np.float64).reshape(-1, 2, 2).transpose(1, 0, 2)
    as_written, scaled_back = (_share_in_patches(raw, offset, side, by) for by in (1.0, ratio))
    if max(as_written, scaled_back) < IN_PATCHES:
        return unmoved, fitting_scale((ratio, 1.0), raw, size_px)
    if scaled_back > as_written:
        return unmoved, 1.0
    # CellViT multiplies the positions of patches by the downsampling, and not the positions inside of them.
    inner = (patch + 0.5) * (overlap or 0.0)
    with np.errstate(over="ignore", invalid="ignore"):  # positions in a file can be of any size
        mixed = downsampling is not None and np.abs(offset - (patch * side * downsampling - inner)).max() <= 1
    return ((patch * side - inner - offset)[:, ::-1] if mixed else unmoved), ratio


def _share_in_patches(raw: NDArray[Any], offset: NDArray[np.float64], side: float, ratio: float) -> float:
    """Share of cells that lie in their patches at `offset` (rows, columns), after a division by `ratio`."""
    local = shapely.bounds(raw) / ratio - np.tile(offset[:, ::-1], 2)
    return float(((local >= -MARGIN_PX) & (local <= side + MARGIN_PX)).all(1).mean())


def _pair(values: Any) -> tuple[float, float] | None:
    match values:
        case [int() | float() as first, int() | float() as second]:
            try:
                return float(first), float(second)
            except OverflowError:  # JSON can hold integers of any size
                return None
    return None
