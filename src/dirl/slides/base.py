"""A slide: its description, the protocol that readers follow, and checks of its resolution."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import DirlWarning, SlideError

MPP_IN_TABLE = "state it in a table with the columns slide_id and mpp: `dirl tile --cohort CSV`"
MPP_REMEDY = "state it in µm/px with --mpp-override UM (for one of several slides: `dirl tile --cohort CSV`)"
# Plausible resolutions of a slide, in µm/px. TIFF tags outside them, such as 72 dots per inch, are defaults.
FINEST_MPP, COARSEST_MPP = 0.05, 20.0
UM_PER_INCH = 25_400.0
# Two resolutions within 2 % count as equal: scanners write 0.499 for 0.5.
SAME_MPP = 0.02
Box = tuple[int, int, int, int]
"""Left, top, width and height, in level-0 pixels."""
# Barcode of The Cancer Genome Atlas: project and tissue source site, then the participant.
TCGA = re.compile(r"(TCGA-\w{2})-\w{4}(?=-)")


@dataclass(frozen=True)
class SlideInfo:
    """Description of a slide.

    Attributes
    ----------
    slide_id
        Name of the slide, unique in a cohort.
    path
        File, or the folder of a DICOM series.
    patient_id
        Patient, if the file names one.
    size_px
        Width and height at level 0.
    mpp
        Resolution of level 0, in µm/px.
    level_downsamples
        Level-0 pixels per pixel of each level, ascending from 1.
    centre
        Hospital or laboratory, if the file's name tells it.
    scanned_box
        Scanned box of level 0, if the file gives one; see `bounds`.
    """

    slide_id: str
    path: Path
    patient_id: str | None
    size_px: tuple[int, int]
    mpp: float
    level_downsamples: tuple[float, ...]
    centre: str | None = None
    scanned_box: Box | None = None

    @property
    def bounds(self) -> Box:
        """Scanned box of level 0; the whole slide if the file gives none.

        QuPath crops a slide to this box. Its corner is the origin of QuPath's coordinates.
        """
        return self.scanned_box or (0, 0, *self.size_px)


class Slide(Protocol):
    """A slide that is open for reading."""

    @property
    def info(self) -> SlideInfo:
        """Description of the slide."""
        ...

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of one level. All four numbers are in that level's pixels; outside the slide is white.

        Returns
        -------
        ndarray of shape (h, w, 3), uint8

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        ...

    def close(self) -> None:
        """Close the file."""
        ...


def tcga_origin(name: str) -> tuple[str | None, str | None]:
    """Patient and tissue source site (``TCGA-CR``) of a name that starts with a TCGA barcode, else None."""
    barcode = TCGA.match(name)
    return (barcode.group(), barcode.group(1)) if barcode else (None, None)


def level_for(info: SlideInfo, mpp: float) -> int:
    """Return the coarsest level that is at least as fine as a resolution, or 0."""
    downsample = mpp / info.mpp * (1 + SAME_MPP)
    return max((i for i, d in enumerate(info.level_downsamples) if d <= downsample), default=0)


def check_resolution(info: SlideInfo, mpp: float, *, allow_upsample: bool = False) -> None:
    """Refuse a slide that is more than 2 % coarser than `mpp`, unless upsampling is allowed."""
    if mpp < info.mpp * (1 - SAME_MPP) and not allow_upsample:
        raise SlideError(
            f"has {info.mpp:g} µm/px, but {mpp:g} was requested",
            where=info.path,
            remedy=f"request {info.mpp:g} µm/px or coarser, or enlarge it with --allow-upsample",
        )


def overridden_mpp(mpp: float, resolution: tuple[float, float] | None) -> float:
    """Return `mpp`, which a user gave, and warn if the file's own resolution is plausible and differs."""
    own = None if resolution is None else sum(resolution) / 2
    if own is not None and FINEST_MPP <= own <= COARSEST_MPP and abs(own / mpp - 1) > SAME_MPP:
        warnings.warn(
            f"a file gives {own:.4g} µm/px, but {mpp:.4g} µm/px is used, as you stated",
            DirlWarning,
            stacklevel=2,
        )
    return mpp


def checked_mpp(path: Path, resolution: tuple[float, float] | None) -> float:
    """Check the width and height of a pixel in µm that a file gives, and return its resolution in µm/px.

    A `SlideError` tells that it is missing, is one that no scanner has, or has pixels that are not square.
    """
    if resolution is None:
        raise SlideError("gives no resolution (mpp)", where=path, remedy=MPP_REMEDY)
    x, y = resolution
    if not (min(x, y) >= FINEST_MPP and max(x, y) <= COARSEST_MPP):
        raise SlideError(
            f"gives no resolution (mpp): {UM_PER_INCH / x:.4g} dots per inch ({x:.4g} µm/px) is a default of "
            "programs, not a scanner's resolution",
            where=path,
            remedy=MPP_REMEDY,
        )
    if max(x, y) > 1.05 * min(x, y):
        raise SlideError(f"pixels are not square ({x:g} × {y:g} µm)", where=path, remedy=MPP_REMEDY)
    return (x + y) / 2


def fill_box(
    size_px: tuple[int, int],
    x: int,
    y: int,
    w: int,
    h: int,
    read_inside: Callable[[int, int, int, int], NDArray[np.uint8]],
) -> NDArray[np.uint8]:
    """Read the part of a box that is inside a level, and fill the rest with white: uint8 (h, w, 3).

    Sizes are in the level's pixels. `read_inside` reads a box (x, y, w, h) that is wholly inside the level.
    """
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size_px[0]), min(y + h, size_px[1])
    if (left, top, right, bottom) == (x, y, x + w, y + h):
        return read_inside(x, y, w, h)
    box = np.full((h, w, 3), 255, np.uint8)
    if left < right and top < bottom:
        inside = read_inside(left, top, right - left, bottom - top)
        box[top - y : bottom - y, left - x : right - x] = inside
    return box
