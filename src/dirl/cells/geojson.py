"""Nuclei as QuPath has them: ``geojson:DIR``, a file of objects for each slide or for each tile."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.card import digest
from dirl.cells.frames import FRAMES, Frame, choose_frame
from dirl.cells.objects import EXPORT, class_of, draw_nuclei, read_objects, stated_id
from dirl.cells.own_files import OwnNuclei, check_place, source_files
from dirl.cells.polygons import Outlines, outlines
from dirl.errors import ConfigError
from dirl.slides.slide import Box
from dirl.store.dataset import TileStore

SUFFIXES = (".geojson", ".json")
# Changes with what is read from the same file.
RULES = 2
# A median outside of these is no nucleus's: coordinates of another resolution, or other objects.
NUCLEUS_UM2 = (8.0, 600.0)


@dataclass(frozen=True)
class GeoJSON:
    """QuPath objects in a folder, in files named as slides or tiles; see `dirl.cells.own_files.source_files`.

    Which objects are nuclei: see `dirl.cells.objects.draw_nuclei`.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide. Coordinates are pixels of level 0, of ready-made
        tiles pixels of the tile.
    frame
        Where coordinates begin on a slide that QuPath crops: ``auto``, ``qupath`` or ``level0``; see
        `dirl.cells.frames.choose_frame`.
    """

    place: str
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        if self.frame not in FRAMES:
            remedy = f"choose {', '.join(FRAMES[:-1])} or {FRAMES[-1]}"
            where = f"segmenter geojson:{self.place},frame={self.frame}"
            raise ConfigError("there is no such frame", where=where, remedy=remedy)

    @property
    def digest(self) -> str:
        """Digest of the frame, and of the rules of reading."""
        return digest({"source": "geojson", "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.own_files.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file of objects; see `dirl.cells.own_files.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> OwnNuclei:
        """Read a file of objects of a slide; see `dirl.cells.own_files.FramedSource`."""
        objects = read_objects(file)
        drawn = draw_nuclei(objects, mpp, file)
        centres = shapely.get_coordinates(shapely.centroid(drawn.shapes)).reshape(-1, 2)
        frame = choose_frame(self.frame, objects.offset_px, objects.by_qupath, centres, size_px, bounds)
        return placed_nuclei(
            _moved(drawn.shapes, frame),
            _ids(drawn.properties),
            [class_of(values) for values in drawn.properties],
            drawn.notes,
            file,
            size_px,
            mpp,
            frame,
        )


def placed_nuclei(
    shapes: NDArray[Any],
    ids: NDArray[np.int32],
    classes: list[str | None],
    notes: Mapping[str, int],
    file: Path,
    size_px: tuple[int, int],
    mpp: float,
    frame: Frame | None = None,
) -> OwnNuclei:
    """Make nuclei of outlines, those outside of the image left out and counted.

    Parameters
    ----------
    shapes : ndarray of shape (n,)
        Valid polygons and multipolygons with an area, in pixels of the image.
    ids : ndarray of shape (n,)
        Number of each.
    classes
        Name of each one's class, or None.
    notes
        What was left out so far, counted.
    file
        Named in errors.
    size_px, mpp
        Width and height of the image, and its resolution in µm/px.
    frame
        What the coordinates were taken in, where a file may have several.

    Raises
    ------
    ConfigError
        If there are outlines, and all lie outside, or their coordinates are µm.
    """
    lines = shapely.bounds(shapes).reshape(-1, 4)
    outside = (lines[:, :2] >= size_px).any(1) | (lines[:, 2:] <= 0).any(1)
    if len(shapes) and outside.all():
        raise ConfigError(
            f"all {len(shapes)} objects lie outside the image of {size_px[0]}×{size_px[1]} px"
            + (f" in {frame}" if frame and any(frame.offset_px) else ""),
            where=file,
            remedy=f"coordinates are pixels of level 0, as they are when exported {EXPORT}",
        )
    if len(shapes):
        _check_scale(shapes, size_px, mpp, file)
    if outside.any():
        notes = {**notes, "outside the image": int(outside.sum())}
    inside = np.flatnonzero(~outside)
    shapes, lines, ids = shapes[inside], lines[inside], ids[inside]
    centres = shapely.get_coordinates(shapely.centroid(shapes)).reshape(-1, 2)
    return OwnNuclei(
        ids=ids,
        x=centres[:, 0],
        y=centres[:, 1],
        area_px=shapely.area(shapes),
        touches_border=(lines[:, :2] <= 0).any(1) | (lines[:, 2:] >= size_px).any(1),
        classes=[classes[i] for i in inside.tolist()],
        cut=outlines(ids, shapes).cut,
        notes=notes,
        frame=frame,
    )


def read_outlines(file: Path, mpp: float) -> Outlines:
    """Read the outlines of a file that dirl wrote, with the ids that they have when it is read as nuclei.

    Parameters
    ----------
    file
        The file.
    mpp
        µm/px of its pixels.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    objects = read_objects(file)
    drawn = draw_nuclei(objects, mpp, file)
    frame = Frame("qupath", objects.offset_px or (0.0, 0.0), "stated")
    return outlines(_ids(drawn.properties), _moved(drawn.shapes, frame))


def _moved(shapes: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Outlines in level-0 pixels."""
    if not any(frame.offset_px) or not len(shapes):
        return shapes
    return np.asarray(shapely.transform(shapes, lambda at: at + frame.offset_px))


def _check_scale(shapes: NDArray[Any], size_px: tuple[int, int], mpp: float, file: Path) -> None:
    """Tell coordinates in µm, or of another resolution, from those of level 0."""
    area = float(np.median(shapely.area(shapes)))
    least, most = NUCLEUS_UM2
    if least <= area * mpp**2 <= most:
        return
    right, bottom = shapely.total_bounds(shapes)[2:]
    in_um = right <= size_px[0] * mpp * 1.01 and bottom <= size_px[1] * mpp * 1.01
    if mpp < 0.9 and in_um and least <= area <= most:
        raise ConfigError(
            f"coordinates look like µm: all objects lie in the first {right:.0f}×{bottom:.0f} of "
            f"{size_px[0]}×{size_px[1]} px, and their median area would be {area * mpp**2:.2g} µm²",
            where=file,
            remedy=f"coordinates are pixels of level 0, so divide them by {mpp:g}, or export them {EXPORT}",
        )
    warnings.warn(
        f"{file}: the median area is {area * mpp**2:.3g} µm², which no nucleus has — "
        f"are the coordinates pixels of level 0, at {mpp:g} µm/px, and the objects nuclei?",
        stacklevel=2,
    )


def _ids(properties: Iterable[Mapping[str, Any]]) -> NDArray[np.int32]:
    """Ids that dirl gave, where nothing else has the same; the others are numbered on from the largest."""
    stated = [stated_id(values) for values in properties]
    ids = np.zeros(len(stated), np.int32)
    used: set[int] = set()
    for i, number in enumerate(stated):
        if number is not None and number not in used:
            ids[i] = number
            used.add(number)
    new = np.flatnonzero(ids == 0)
    ids[new] = max(used, default=0) + 1 + np.arange(len(new))
    return ids
