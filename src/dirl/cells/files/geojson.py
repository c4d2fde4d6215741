"""Nuclei from QuPath: ``geojson:DIR``, a GeoJSON file for each slide or for each tile."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.area_check import REGIONS, are_regions
from dirl.cells.files.folder_source import FolderSource
from dirl.cells.files.frames import FRAMES, AskedFrame
from dirl.cells.files.geojson_features import (
    EXPORT,
    NUCLEI,
    POINTS,
    Feature,
    FeatureFile,
    parse_features,
    read_content,
)
from dirl.cells.files.polygon_nuclei import PolygonNuclei, unique_ids
from dirl.cells.files.tool_json import tool_reader
from dirl.cells.geometry.polygons import around_many, nuclei_of, polygon, repaired
from dirl.cells.geometry.rasterize import Rasterizer
from dirl.cells.source import FileNuclei
from dirl.core.errors import ConfigError
from dirl.slides.base import Box

OUTLINES = (
    f"bring the file that holds outlines (CellViT's is cells.json or cells.geojson), or export them {EXPORT}"
)
# Class of QuPath's detections inside of cells.
INSIDE_CELLS = "Subcellular "
# Classes of InstanSeg, which writes a nucleus and the cell around it, both as detections.
INSTANSEG_CLASSES = ({"Nuclei", "Cells"}, {"Nucleus", "Cell"})
INSTANSEG_CELLS = ("Cells", "Cell")


@dataclass(frozen=True)
class GeoJSON(FolderSource):
    """GeoJSON files in a folder, in pixels of level 0, or of the tile for ready-made tiles.

    `nuclei_in` chooses the objects that are nuclei. JSON of HoVer-Net and CellViT is read too, as in
    `dirl.cells.files.tool_json`.

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

    frame: AskedFrame = FRAMES[0]

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        content = read_content(file)
        if reader := tool_reader(content):
            found = reader(content, file, size_px, mpp, None)
        else:
            found = nuclei_in(parse_features(content, file), mpp, file)
        return found.on_slide(self.frame, file, size_px, mpp, bounds)


def read_exported(file: Path, mpp: float) -> Rasterizer:
    """Read a file of `mpp` µm/px that dirl exported, with the ids that `GeoJSON.read` gives."""
    return nuclei_in(parse_features(read_content(file), file), mpp, file).rasterizer()


def nuclei_in(content: FeatureFile, mpp: float, file: Path) -> PolygonNuclei:
    """Make polygons of the objects that are nuclei, in the file's pixels of `mpp` µm.

    Cells and detections are nuclei; if there are none, annotations are. A cell is drawn as its nucleus, if it
    has one. A collection of polygons is split, unless they are parts of one nucleus; see
    `dirl.cells.geometry.polygons.nuclei_of`. An outline around many others is left out. Objects that dirl
    exported are not changed.

    Raises
    ------
    ConfigError
        If there are objects, and none has a valid outline.
    """
    features, notes = _nuclei(content)
    collections = _are_collections(features)
    shapes: list[Any] = []
    owner: list[int] = []
    for i, feature in enumerate(features):
        parts = [part for rings in feature.polygons if (part := polygon(rings)) is not None]
        notes["objects without an area"] += not feature.polygons
        notes["objects or parts with broken coordinates, left out"] += len(feature.polygons) - len(parts)
        if len(parts) > 1:
            exported = feature.dirl_id is not None
            parts = [shapely.multipolygons(parts)] if exported else nuclei_of(parts, mpp, collections)
            notes["collections, split into their parts"] += len(parts) > 1
        shapes += parts
        owner += [i] * len(parts)
    drawn, kept = _valid(np.array(shapes, object), notes)
    if content.features and not len(drawn):
        raise ConfigError(_without_outlines(content, features), where=file, remedy=OUTLINES)
    owners = [features[owner[i]] for i in kept.tolist()]
    foreign = np.array([feature.dirl_id is None for feature in owners], bool)
    twice = _repeated(drawn) & foreign
    regions = np.zeros(len(drawn), bool)
    once = np.flatnonzero(~twice)
    regions[once] = around_many(drawn[once]) & foreign[once]
    large = are_regions(shapely.area(drawn) * mpp**2) & foreign & ~regions & ~twice
    notes["repeated outlines, left out"] += int(twice.sum())
    notes["outlines around many others, left out"] += int(regions.sum())
    notes[f"outlines {REGIONS}"] += int(large.sum())
    kept = np.flatnonzero(~(twice | regions | large))
    nuclei = [owners[i] for i in kept.tolist()]
    return PolygonNuclei(
        drawn[kept],
        unique_ids([feature.dirl_id for feature in nuclei]),
        [feature.class_name for feature in nuclei],
        notes,
        in_qupath=content.by_qupath,
        offset_px=content.offset_px,
    )


def _without_outlines(content: FeatureFile, chosen: Sequence[Feature]) -> str:
    """Explain why a file of objects holds no outline of a nucleus."""
    if not chosen:
        kinds = Counter(feature.kind for feature in content.features)
        others = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        return f"holds no cells, detections or annotations, but {others}"
    points = all(feature.geometry_type in POINTS for feature in chosen)
    objects = "its only object is not" if len(chosen) == 1 else f"none of its {len(chosen)} objects is"
    return f"{objects} a polygon with an area" + (": all are points" if points else "")


def _are_collections(features: Sequence[Feature]) -> bool:
    """Whether each object of a file holds all nuclei of a class, as CellViT writes them."""
    classes = [feature.class_name for feature in features]
    several = all(feature.geometry_type == "MultiPolygon" for feature in features)
    return several and None not in classes and len(set(classes)) == len(classes)


def _repeated(shapes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return a mask, shape (n,), of the outlines that equal an earlier one, to the last digit."""
    _, first = np.unique(np.array(shapely.to_wkb(shapes), object), return_index=True)
    return ~np.isin(np.arange(len(shapes)), first)


def _nuclei(content: FeatureFile) -> tuple[list[Feature], Counter[str]]:
    """Choose the objects that are nuclei."""
    kinds = [feature.kind for feature in content.features]
    wanted = NUCLEI if not set(NUCLEI).isdisjoint(kinds) else ("annotation",)
    chosen = [feature for feature in content.features if feature.kind in wanted]
    if {feature.class_name for feature in chosen} in INSTANSEG_CLASSES:
        chosen = [feature for feature in chosen if feature.class_name not in INSTANSEG_CELLS]
    chosen = [feature for feature in chosen if not (feature.class_name or "").startswith(INSIDE_CELLS)]
    whole = kinds.count("cell") - sum(feature.has_nucleus for feature in chosen)
    notes = Counter(
        {
            "objects that are not nuclei": len(kinds) - len(chosen),
            "cells without a nucleus, taken whole": max(whole, 0),
            "entries that are not objects": content.broken,
        }
    )
    return chosen, notes


def _valid(shapes: NDArray[Any], notes: Counter[str]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Valid outlines with an area, repaired if they crossed themselves, and their indices in `shapes`."""
    unclear = np.zeros(len(shapes), bool)
    crossed = np.flatnonzero(~shapely.is_valid(shapes))
    flat = shapely.area(shapes) == 0
    for i in crossed.tolist():
        whole = repaired(shapes[i])
        flat[i] = whole is not None and whole.area == 0
        unclear[i] = whole is None
        shapes[i] = whole
    notes["objects without an area"] += int(flat.sum())
    notes["outlines that cross themselves, left out"] += int(unclear.sum())
    notes["outlines that crossed themselves, repaired"] += len(crossed) - int((flat | unclear)[crossed].sum())
    kept = np.flatnonzero(~(flat | unclear))
    return shapes[kept], kept
