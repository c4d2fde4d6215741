"""The origin of a file's coordinates: the slide's corner, or the corner of QuPath's image of the slide.

QuPath shows the part of a slide that was scanned, its ``openslide.bounds-*``. Its coordinates begin there.
"""

import numpy as np
from numpy.typing import NDArray

from dirl.cells.source import Frame
from dirl.core.errors import DirlError
from dirl.slides.base import Box
from dirl.slides.tissue import tissue_pixels
from dirl.store.cut import reopen
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord

# Largest share of objects outside of QuPath's image: QuPath draws a few at its border, and no others.
FEW = 0.05
# Number of nuclei whose tissue is checked, and the share by which the other frame must be better.
SAMPLE, CLEARLY = 200, 0.2


def bounds_of(record: SlideRecord) -> Box | None:
    """Box of a slide that QuPath shows; None if an old store lacks it and the slide is missing."""
    if record.bounds is not None or record.kind == "tiles":
        return record.bounds or (0, 0, *record.size_px)
    try:
        slide = reopen(record)
    except DirlError:
        return None
    slide.close()
    return slide.info.bounds


def choose_frame(
    asked: str,
    marked: tuple[float, float] | None,
    by_qupath: bool,
    centres: NDArray[np.float64],
    size_px: tuple[int, int],
    bounds: Box,
) -> Frame:
    """Choose the frame of a file.

    With ``auto`` a stated offset decides. Without one, QuPath's marks in the file choose QuPath's frame; a
    file without marks is in level 0. If centres lie outside of QuPath's image, but on the slide, the frame is
    level 0 in spite of the marks, with a doubt.

    Parameters
    ----------
    asked
        One of `dirl.cells.files.folder_source.FRAMES`.
    marked
        Offset stated in the file; see `dirl.slides.qupath_frame.marked_offset`.
    by_qupath
        Whether the file has QuPath's marks.
    centres : ndarray of shape (n, 2)
        Centres x, y of the nuclei as in the file.
    size_px, bounds
        Size and bounds of the slide.
    """
    corner = (float(bounds[0]), float(bounds[1]))
    zero = (0.0, 0.0)
    if asked == "qupath":
        return Frame("qupath", corner, "stated")
    if asked == "level0":
        return Frame("level0", zero, "stated")
    if marked is not None:
        doubt = None if marked == corner else f"the slide's own offset is {corner[0]:g}, {corner[1]:g}"
        return Frame("qupath", marked, "the file states it", doubt)
    if not by_qupath:
        return Frame("level0", zero, "the file has no marks of QuPath")
    outside, off_slide = (_share_outside(centres, size) for size in (bounds[2:], size_px))
    if outside > FEW >= off_slide:
        why = f"{outside:.0%} of its centres lie outside of the {bounds[2]}×{bounds[3]} px that QuPath shows"
        return Frame("level0", zero, why, "the file has QuPath's marks")
    return Frame("qupath", corner, "the file has QuPath's marks")


def doubt_by_tissue(
    tiles: TileStore, slide_id: str, centres: NDArray[np.float64], frame: Frame, bounds: Box
) -> str | None:
    """Compare the share of nuclei on tissue with that in the other frame.

    Parameters
    ----------
    tiles, slide_id
        The store and the slide. Its tiles show where tissue is.
    centres : ndarray of shape (n, 2)
        Centres x, y of the nuclei in level-0 pixels.
    frame
        The chosen frame.
    bounds
        Bounds of the slide.

    Returns
    -------
    str or None
        A message if the other frame puts clearly more nuclei on tissue.
    """
    other, corner = ("level0", (0, 0)) if frame.name == "qupath" else ("qupath", bounds[:2])
    some = centres[:: -(-len(centres) // SAMPLE) or 1]
    here = _share_on_tissue(tiles, slide_id, some)
    there = _share_on_tissue(tiles, slide_id, some - frame.offset_px + corner)
    if there - here < CLEARLY:
        return None
    return f"only {here:.0%} of its nuclei lie on tissue, and {there:.0%} with frame={other}"


def _share_on_tissue(tiles: TileStore, slide_id: str, centres: NDArray[np.float64]) -> float:
    """Share of points, shape (n, 2), that lie on the tissue of a slide's tiles."""
    record, side = tiles.slides[slide_id], tiles.spec.size_px
    rows = np.flatnonzero(tiles.slide_ids == slide_id)
    corners = np.stack([tiles.index[name].to_numpy()[rows] for name in ("x", "y")], 1)
    found: dict[int, list[NDArray[np.int64]]] = {}
    for centre in centres:
        at = np.floor((centre - corners) * (record.mpp / tiles.spec.mpp)).astype(np.int64)
        under = np.flatnonzero(((at >= 0) & (at < side)).all(1))
        if len(under):
            found.setdefault(int(rows[under[0]]), []).append(at[under[0]])
    count = 0
    for row, points in found.items():
        tissue = tissue_pixels(tiles.image(row), tiles.spec.mpp, record.white)
        count += sum(bool(tissue[y, x]) for x, y in points)
    return count / len(centres) if len(centres) else 0.0


def _share_outside(centres: NDArray[np.float64], size_px: tuple[int, int]) -> float:
    return float(((centres < 0) | (centres > size_px)).any(1).mean()) if len(centres) else 0.0
