"""Nuclei as QuPath has them: ``geojson:DIR``, a file of objects for each slide or for each tile."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.frames import Frame, check_frame, choose_frame
from dirl.cells.files.matching import OwnNuclei, check_place, source_files
from dirl.cells.files.object_properties import class_of, stated_id
from dirl.cells.files.objects import draw_nuclei, objects_of, read_content
from dirl.cells.files.placed import numbered, placed_nuclei
from dirl.cells.files.polygons import Outlines, outlines
from dirl.cells.files.tool_json import tool_placed, tool_reader
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

SUFFIXES = (".geojson", ".json")
# Changes with what is read from the same file.
RULES = 3


@dataclass(frozen=True)
class GeoJSON:
    """QuPath objects in a folder, in files named as slides or tiles.

    `dirl.cells.files.matching.source_files` tells which file belongs to which.

    JSON of HoVer-Net and CellViT is known by its layout; see `dirl.cells.files.tool_json`.

    Which objects are nuclei: see `dirl.cells.files.objects.draw_nuclei`.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide. Coordinates are pixels of level 0, of ready-made
        tiles pixels of the tile.
    frame
        Where coordinates begin on a slide that QuPath crops: ``auto``, ``qupath`` or ``level0``; see
        `dirl.cells.files.frames.choose_frame`.
    """

    place: str
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        check_frame(self.frame, f"geojson:{self.place}")

    @property
    def digest(self) -> str:
        """Digest of the frame, and of the rules of reading."""
        return digest({"source": "geojson", "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.files.matching.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file of objects; see `dirl.cells.files.matching.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> OwnNuclei:
        """Read a file of objects of a slide; see `dirl.cells.files.matching.FramedSource`."""
        content = read_content(file)
        if reader := tool_reader(content):
            found = reader(content, file, size_px, mpp, None)
            return tool_placed(found, file, size_px, mpp, bounds, self.frame)
        objects = objects_of(content, file)
        drawn = draw_nuclei(objects, mpp, file)
        centres = shapely.get_coordinates(shapely.centroid(drawn.shapes)).reshape(-1, 2)
        frame = choose_frame(self.frame, objects.offset_px, objects.by_qupath, centres, size_px, bounds)
        return placed_nuclei(
            _moved(drawn.shapes, frame),
            numbered([stated_id(values) for values in drawn.properties]),
            [class_of(values) for values in drawn.properties],
            drawn.notes,
            file,
            size_px,
            mpp,
            frame,
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
    objects = objects_of(read_content(file), file)
    drawn = draw_nuclei(objects, mpp, file)
    frame = Frame("qupath", objects.offset_px or (0.0, 0.0), "stated")
    return outlines(numbered([stated_id(values) for values in drawn.properties]), _moved(drawn.shapes, frame))


def _moved(shapes: NDArray[Any], frame: Frame) -> NDArray[Any]:
    """Outlines in level-0 pixels."""
    if not any(frame.offset_px) or not len(shapes):
        return shapes
    return np.asarray(shapely.transform(shapes, lambda at: at + frame.offset_px))
