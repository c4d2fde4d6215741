"""Where the coordinates of a file begin: at the slide's corner, or at QuPath's, which crops a slide.

QuPath shows the part of a slide that was scanned, its ``openslide.bounds-*``, and counts from there.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError, DirlError
from dirl.slides.base import Box
from dirl.slides.tissue import tissue_pixels
from dirl.store.cut import reopen
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord

FRAMES = ("auto", "qupath", "level0")
# QuPath draws nothing outside of its image, apart from a few objects at the border.
FEW = 0.05
# Nuclei whose tissue is looked at, and how many more of them a better frame puts on it.
SAMPLE, CLEARLY = 200, 0.2


@dataclass(frozen=True)
class Frame:
    """The frame that the coordinates of a file were taken in.

    Attributes
    ----------
    name
        ``qupath`` or ``level0``.
    offset_px
        What was added to x and y, in level-0 pixels.
    why
        What it was taken for.
    doubt
        What speaks against it; None where nothing does.
    """

    name: str
    offset_px: tuple[float, float]
    why: str
    doubt: str | None = None

    def __str__(self) -> str:
        x, y = self.offset_px
        return f"frame {self.name} (offset {x:g}, {y:g})"


def check_frame(frame: object, spec: str) -> None:
    """Refuse an option of a segmenter, named by `spec`, that is none of `FRAMES`.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if frame not in FRAMES:
        remedy = f"choose {', '.join(FRAMES[:-1])} or {FRAMES[-1]}"
        raise ConfigError("there is no such frame", where=f"segmenter {spec},frame={frame}", remedy=remedy)


def bounds_of(record: SlideRecord) -> Box | None:
    """Box of a slide that QuPath shows; None where the store is too old to know, and the slide is gone."""
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

    ``auto`` is what the file states, else QuPath's where QuPath's marks are in it, else level 0. In spite of
    such marks it is level 0, with a doubt, where centres lie outside of what QuPath shows, but on the slide.

    Parameters
    ----------
    asked
        One of `FRAMES`.
    marked
        Offset that the file states; see `dirl.slides.qupath_frame.marked_offset`.
    by_qupath
        Whether it bears QuPath's marks.
    centres : ndarray of shape (n, 2)
        Of its nuclei, x and y as in the file.
    size_px, bounds
        Of the slide.
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
        return Frame("level0", zero, "the file bears no marks of QuPath")
    outside, off_slide = (_share_outside(centres, size) for size in (bounds[2:], size_px))
    if outside > FEW >= off_slide:
        why = f"{outside:.0%} of its centres lie outside of the {bounds[2]}×{bounds[3]} px that QuPath shows"
        return Frame("level0", zero, why, "the file bears QuPath's marks")
    return Frame("qupath", corner, "the file bears QuPath's marks")


def doubt_by_tissue(
    tiles: TileStore, slide_id: str, centres: NDArray[np.float64], frame: Frame, bounds: Box
) -> str | None:
    """Compare how many nuclei lie on tissue with how many would in the other frame.

    Parameters
    ----------
    tiles, slide_id
        The store's tiles of the slide show where tissue is.
    centres : ndarray of shape (n, 2)
        Of the nuclei, x and y in level-0 pixels.
    frame
        What was taken.
    bounds
        Of the slide.

    Returns
    -------
    str or None
        In words, where the other frame puts clearly more of them on tissue.
    """
    other, corner = ("level0", (0, 0)) if frame.name == "qupath" else ("qupath", bounds[:2])
    some = centres[:: -(-len(centres) // SAMPLE) or 1]
    here = _share_on_tissue(tiles, slide_id, some)
    there = _share_on_tissue(tiles, slide_id, some - frame.offset_px + corner)
    if there - here < CLEARLY:
        return None
    return f"{here:.0%} of its nuclei lie on tissue so, {there:.0%} with frame={other}"


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
