"""A slide: its description, the protocol that readers follow, and checks of its resolution."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import SlideError

MPP_REMEDY = (
    "state it in µm/px with --mpp-override UM (for one of several slides: `dirl tile --slides-table CSV`)"
)
# What a slide can have, in µm/px. Resolution tags of TIFF files beyond it, as 72 dots per inch, are defaults.
FINEST_MPP, COARSEST_MPP = 0.05, 20.0
UM_PER_INCH = 25_400.0
# Two resolutions within 2 % are the same: 0.499 is what scanners write for 0.5.
SAME_MPP = 0.02
Box = tuple[int, int, int, int]
"""Left, top, width and height, in level-0 pixels."""
# Project and tissue source site, then the participant: the barcodes of The Cancer Genome Atlas.
TCGA = re.compile(r"(TCGA-\w{2})-\w{4}(?=-)")


@dataclass(frozen=True)
class SlideInfo:
    """What is known of a slide.

    Attributes
    ----------
    slide_id
        Name of the slide, unique in a cohort.
    path
        File, or the folder of a DICOM series.
    patient_id
        Patient, where the file tells.
    size_px
        Width and height at level 0.
    mpp
        Resolution of level 0, in µm/px.
    level_downsamples
        How many level-0 pixels a pixel of each level spans, ascending from 1.
    centre
        Where the slide was made, where its name tells.
    stated_bounds
        Box of level 0 that holds what was scanned, as the file states it; see `bounds`.
    """

    slide_id: str
    path: Path
    patient_id: str | None
    size_px: tuple[int, int]
    mpp: float
    level_downsamples: tuple[float, ...]
    centre: str | None = None
    stated_bounds: Box | None = None

    @property
    def bounds(self) -> Box:
        """Box of level 0 that holds what was scanned: the whole slide where the file states none.

        QuPath crops a slide to it, so the origin of QuPath's coordinates is its corner.
        """
        return self.stated_bounds or (0, 0, *self.size_px)


class Slide(Protocol):
    """A slide that is open for reading."""

    @property
    def info(self) -> SlideInfo:
        """What is known of the slide."""
        ...

    def read_level(self, level: int, x: int, y: int, w: int, h: int) -> NDArray[np.uint8]:
        """Read a box of one level, all four in that level's pixels; white outside the slide.

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
    """Patient and tissue source site (``TCGA-CR``) of a name that begins with a TCGA barcode, else None."""
    barcode = TCGA.match(name)
    return (barcode.group(), barcode.group(1)) if barcode else (None, None)


def level_for(info: SlideInfo, mpp: float) -> int:
    """Return the coarsest level that is at least as fine as a resolution; 0 where none is."""
    downsample = mpp / info.mpp * (1 + SAME_MPP)
    return max((i for i, d in enumerate(info.level_downsamples) if d <= downsample), default=0)


def check_resolution(info: SlideInfo, mpp: float, *, allow_upsample: bool = False) -> None:
    """Refuse to read a slide finer than it is.

    Raises
    ------
    SlideError
        If the slide is more than 2 % coarser than `mpp` and may not be enlarged.
    """
    if mpp < info.mpp * (1 - SAME_MPP) and not allow_upsample:
        raise SlideError(
            f"has {info.mpp:g} µm/px, {mpp:g} asked for",
            where=info.path,
            remedy=f"ask for {info.mpp:g} µm/px or coarser, or enlarge it: `dirl tile --allow-upsample`",
        )


def checked_mpp(path: Path, resolution: tuple[float, float] | None) -> float:
    """Resolution of a slide by its file.

    Parameters
    ----------
    path
        The file, for the error.
    resolution
        Width and height of a pixel in µm, where the file states it.

    Raises
    ------
    SlideError
        If it is not stated, is none that a scanner has, or pixels are not square.
    """
    if resolution is None:
        raise SlideError("names no resolution (mpp)", where=path, remedy=MPP_REMEDY)
    x, y = resolution
    if not (min(x, y) >= FINEST_MPP and max(x, y) <= COARSEST_MPP):
        raise SlideError(
            f"names no resolution (mpp): {UM_PER_INCH / x:.4g} dots per inch ({x:.4g} µm/px) is a default of "
            "programs, not of a scanner",
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
    """Make a box that may reach beyond a level: what is inside is read, what is outside is white.

    Parameters
    ----------
    size_px
        Width and height of the level.
    x, y, w, h
        The box, in the level's pixels.
    read_inside
        Reads a box (x, y, w, h) that lies wholly on the level.

    Returns
    -------
    ndarray of shape (h, w, 3), uint8
    """
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, size_px[0]), min(y + h, size_px[1])
    if (left, top, right, bottom) == (x, y, x + w, y + h):
        return read_inside(x, y, w, h)
    box = np.full((h, w, 3), 255, np.uint8)
    if left < right and top < bottom:
        inside = read_inside(left, top, right - left, bottom - top)
        box[top - y : bottom - y, left - x : right - x] = inside
    return box
