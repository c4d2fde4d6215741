"""The origin of a file's coordinates: the slide's corner, or the corner of QuPath's image of the slide.

QuPath shows the part of a slide that was scanned, its ``openslide.bounds-*``. Its coordinates begin there.
"""

from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dirl.cells.source import Frame
from dirl.core.errors import ConfigError, DirlError
from dirl.slides.base import SAME_MPP, Box
from dirl.slides.tissue import tissue_pixels
from dirl.store.cut import reopen_slide
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord

AskedFrame = Literal["auto", "qupath", "level0"]
FRAMES: tuple[AskedFrame, ...] = get_args(AskedFrame)
# Largest share of objects outside of QuPath's image: QuPath draws a few at its border, and no others.
FEW = 0.05
STATED = "stated"
QUPATHS_MARKS = "the file has QuPath's marks"
# Number of nuclei whose tissue is checked, and the share by which the other frame must be better.
SAMPLE, CLEARLY = 200, 0.2


def bounds_of(record: SlideRecord) -> Box | None:
    """Box of a slide that QuPath shows; None if an old store lacks it and the slide is missing."""
    if record.bounds is not None or record.kind == "tiles":
        return record.bounds or (0, 0, *record.size_px)
    try:
        slide = reopen_slide(record)
    except DirlError:
        return None
    slide.close()
    return slide.info.bounds


def choose_frame(
    asked: AskedFrame,
    *,
    centres: NDArray[np.float64],
    size_px: tuple[int, int],
    bounds: Box,
    marked: tuple[float, float] | None = None,
    in_qupath: bool = False,
    tool: str | None = None,
) -> Frame:
    """Choose the frame of outlines, whose centres x, y (n, 2) are as in the file.

    With ``auto`` the offset `marked` decides, which the file states; see
    `dirl.slides.qupath_frame.marked_offset`. Without one, `in_qupath` decides: whether QuPath's marks in the
    file, or the `tool` that wrote it, tell QuPath's frame. If centres lie outside of QuPath's image, but on
    the slide, the frame is level 0 all the same, with a doubt.
    """
    corner, zero = (float(bounds[0]), float(bounds[1])), (0.0, 0.0)
    if asked == "qupath":
        return Frame("qupath", corner, STATED)
    if asked == "level0":
        return Frame("level0", zero, STATED)
    if marked is not None:
        doubt = None if marked == corner else f"the slide's own offset is {corner[0]:g}, {corner[1]:g}"
        return Frame("qupath", marked, "the file states it", doubt)
    if not in_qupath:
        of_level0 = f"the coordinates of {tool} begin there" if tool else "the file has no marks of QuPath"
        return Frame("level0", zero, of_level0)
    outside, off_slide = (_share_outside(centres, size) for size in (bounds[2:], size_px))
    if outside > FEW >= off_slide:
        why = f"{outside:.0%} of its centres lie outside of the {bounds[2]}×{bounds[3]} px that QuPath shows"
        doubt = f"the coordinates of {tool} usually begin as QuPath's do" if tool else QUPATHS_MARKS
        return Frame("level0", zero, why, doubt)
    of_qupath = f"the coordinates of {tool} begin there, as QuPath's do" if tool else QUPATHS_MARKS
    return Frame("qupath", corner, of_qupath)


def place_map(
    map_px: tuple[int, int],
    size_px: tuple[int, int],
    bounds: Box,
    scale: float | None,
    asked: AskedFrame,
    file: Path,
) -> tuple[float, Frame]:
    """Return the pixels of an image per pixel of its label map, and the frame of the map's corner.

    `map_px` and `size_px` are width and height of the map and of its image; `scale` is None unless the user
    states the map's resolution. With ``auto`` the map's proportions decide: those of the slide, or those of
    QuPath's image of it. If both fit, the map has the frame in which one of its pixels is a whole number of
    the slide's pixels.

    Raises
    ------
    ConfigError
        If the map covers neither, or if both frames fit it.
    """
    shown, corner = (bounds[2], bounds[3]), (float(bounds[0]), float(bounds[1]))
    of_qupath = f"the map has the proportions of the {shown[0]}×{shown[1]} px that QuPath shows"
    frames = (
        (size_px, Frame("level0", (0.0, 0.0), "the map has the proportions of the slide")),
        (shown, Frame("qupath", corner, of_qupath)),
    )
    fitting = [
        (found, frame if asked == "auto" else replace(frame, why=STATED))
        for size, frame in frames
        if asked in ("auto", frame.name) and (found := _scale(map_px, size, scale)) is not None
    ]
    if not fitting:
        sizes = f"{size_px[0]}×{size_px[1]} px"
        if bounds != (0, 0, *size_px):
            sizes += f", of which QuPath shows {shown[0]}×{shown[1]} px"
        at = "" if scale is None else f" at {scale:g} times its pixels"
        raise ConfigError(
            f"{map_px[0]}×{map_px[1]} px{at} do not cover the image of {sizes}",
            where=file,
            remedy="a map must cover the whole slide or tile; state its resolution with mpp= if it is known",
        )
    if len(fitting) == 1 or bounds == (0, 0, *size_px):
        return fitting[0]
    whole = [one for one in fitting if one[0] == round(one[0])]
    if len(whole) == 1:
        return whole[0]
    raise ConfigError(
        f"{map_px[0]}×{map_px[1]} px may cover the slide of {size_px[0]}×{size_px[1]} px, or the "
        f"{shown[0]}×{shown[1]} px that QuPath shows of it",
        where=file,
        remedy="state frame=level0 for the slide, or frame=qupath",
    )


def doubt_by_tissue(
    tiles: TileStore, slide_id: str, centres: NDArray[np.float64], frame: Frame, bounds: Box
) -> str | None:
    """Return a message if the other frame puts clearly more nuclei on the tissue of the slide's tiles.

    `centres` x, y (n, 2) are in level-0 pixels.
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


def _scale(map_px: tuple[int, int], size_px: tuple[int, int], given: float | None) -> float | None:
    """Pixels of an image per pixel of a map; None if the map does not cover the image."""
    sizes = tuple(zip(size_px, map_px, strict=True))
    scale = size_px[0] / max(map_px[0], 1) if given is None else given
    whole = round(scale)
    # A map of an nth of the size may lack the last, incomplete pixel of each line.
    if given is None and whole and all(abs(n - m * whole) < whole for n, m in sizes):
        scale = float(whole)
    fits = all(abs(n - m * scale) <= max(scale, SAME_MPP * n) for n, m in sizes)
    return scale if fits else None
