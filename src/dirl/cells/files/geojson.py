"""Nuclei from QuPath: ``geojson:DIR``, a GeoJSON file for each slide or for each tile."""

from dataclasses import dataclass
from pathlib import Path

from dirl.cells.files.frames import choose_frame
from dirl.cells.files.geojson_features import parse_features, read_content
from dirl.cells.files.geojson_nuclei import draw_nuclei
from dirl.cells.files.matching import source_files
from dirl.cells.files.options import check_frame, check_place
from dirl.cells.files.polygon_nuclei import centres_of, moved, nuclei_from_polygons, unique_ids
from dirl.cells.files.tool_json import tool_reader
from dirl.cells.geometry.rasterize import Rasterizer, rasterizer
from dirl.cells.source import FileNuclei, Frame
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

SUFFIXES = (".geojson", ".json")
# Increased whenever the same file is read in another way.
RULES = 3


@dataclass(frozen=True)
class GeoJSON:
    """GeoJSON files in a folder, named after slides or tiles.

    `dirl.cells.files.matching.source_files` finds the files. `dirl.cells.files.geojson_nuclei.draw_nuclei`
    chooses the objects that are nuclei. JSON of HoVer-Net and CellViT is read too, as in
    `dirl.cells.files.tool_json`.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store. Coordinates are pixels of level 0, or for ready-made
        tiles pixels of the tile.
    frame
        Origin of the coordinates on a slide that QuPath crops: ``auto``, ``qupath`` or ``level0``; see
        `dirl.cells.files.frames.choose_frame`.
    """

    place: str
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        check_frame(self.frame, f"geojson:{self.place}")

    @property
    def digest(self) -> str:
        """Digest of the frame and of the way of reading."""
        return digest({"source": "geojson", "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.source.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

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
