"""Nuclei from QuPath: ``geojson:DIR``, a GeoJSON file for each slide or for each tile."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dirl.cells.files.folder_source import FramedFolderSource
from dirl.cells.files.frames import choose_frame
from dirl.cells.files.geojson_features import parse_features, read_content
from dirl.cells.files.geojson_nuclei import draw_nuclei
from dirl.cells.files.polygon_nuclei import centres_of, moved, nuclei_from_polygons, unique_ids
from dirl.cells.files.tool_json import tool_reader
from dirl.cells.geometry.rasterize import Rasterizer, rasterizer
from dirl.cells.source import FileNuclei, Frame
from dirl.slides.base import Box


@dataclass(frozen=True)
class GeoJSON(FramedFolderSource):
    """GeoJSON files in a folder, in pixels of level 0, or of the tile for ready-made tiles.

    `dirl.cells.files.geojson_nuclei.draw_nuclei` chooses the objects that are nuclei. JSON of HoVer-Net and
    CellViT is read too, as in `dirl.cells.files.tool_json`.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store.
    frame
        Origin of the coordinates on a slide that QuPath crops: ``auto``, ``qupath`` or ``level0``; see
        `dirl.cells.files.frames.choose_frame`.
    """

    name: ClassVar = "geojson"
    suffixes: ClassVar = (".geojson", ".json")
    rules: ClassVar = 3

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> FileNuclei:
        """Read the file of a slide; see `dirl.cells.source.FramedSource`."""
        content = read_content(file)
        if reader := tool_reader(content):
            return reader(content, file, size_px, mpp, None).placed(file, size_px, mpp, bounds, self.frame)
        features = parse_features(content, file)
        drawn = draw_nuclei(features, mpp, file)
        centres = centres_of(drawn.shapes)
        frame = choose_frame(self.frame, features.offset_px, features.by_qupath, centres, size_px, bounds)
        return nuclei_from_polygons(
            moved(drawn.shapes, frame),
            unique_ids([feature.dirl_id for feature in drawn.features]),
            [feature.class_name for feature in drawn.features],
            drawn.notes,
            file,
            size_px,
            mpp,
            frame,
        )


def read_exported(file: Path, mpp: float) -> Rasterizer:
    """Read the polygons of a file that dirl exported, with the ids that `GeoJSON.read` gives them.

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
    features = parse_features(read_content(file), file)
    drawn = draw_nuclei(features, mpp, file)
    frame = Frame("qupath", features.offset_px or (0.0, 0.0), "stated")
    ids = unique_ids([feature.dirl_id for feature in drawn.features])
    return rasterizer(ids, moved(drawn.shapes, frame))
