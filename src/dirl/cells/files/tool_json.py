"""Nuclei from the JSON of HoVer-Net and CellViT: ``hovernet-json:DIR`` and ``cellvit-json:DIR``.

``geojson:DIR`` reads such files, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from dirl.cells.files import cellvit_json, hovernet_json
from dirl.cells.files.cellvit_json import cellvit_nuclei, is_cellvit
from dirl.cells.files.frames import check_frame, choose_frame
from dirl.cells.files.hovernet_json import hovernet_nuclei, is_hovernet
from dirl.cells.files.matching import OwnNuclei, check_place, source_files
from dirl.cells.files.placed import placed_nuclei
from dirl.cells.files.tool_nuclei import ToolNuclei, read_json_file
from dirl.core.errors import ConfigError
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

SUFFIXES = (".json",)
# Changes with what is read from the same file.
RULES = 1
Reader = Callable[[Mapping[str, Any], Path, tuple[int, int], float, float | None], ToolNuclei]


def tool_reader(content: Any) -> Reader | None:
    """Return what reads the content of a JSON file, by its layout; None where it is no tool's."""
    if is_hovernet(content):
        return hovernet_nuclei
    return cellvit_nuclei if is_cellvit(content) else None


def tool_placed(
    found: ToolNuclei, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box, frame: str
) -> OwnNuclei:
    """Place a tool's nuclei on a slide that QuPath crops to `bounds`; see `dirl.cells.files.frames`."""
    centres = shapely.get_coordinates(shapely.centroid(found.shapes)).reshape(-1, 2)
    taken = choose_frame(frame, None, found.from_bounds, centres, size_px, bounds)
    shapes = found.shapes
    if frame == "auto":
        why = (
            "CellViT counts from there, as QuPath does"
            if found.from_bounds
            else "HoVer-Net counts from there"
        )
        taken = replace(taken, why=why)
    if any(taken.offset_px) and len(shapes):
        shapes = np.asarray(shapely.transform(shapes, lambda at: at + taken.offset_px))
    return placed_nuclei(shapes, found.ids, found.classes, found.notes, file, size_px, mpp, taken)


@dataclass(frozen=True)
class HoVerNetJSON:
    """HoVer-Net's JSON in a folder, in files named as slides or tiles.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide. Names of types are read from a ``type_info.json`` in
        a file's folder, or in the one above.
    mpp
        µm/px of the coordinates. By default they are brought to level 0 by the magnification that a file
        states, of which 40 is 0.25 µm/px.
    """

    place: str
    mpp: float | None = None

    def __post_init__(self) -> None:
        check_place(self.place)
        check_mpp(self.mpp, f"hovernet-json:{self.place}")

    @property
    def digest(self) -> str:
        """Changes with the stated resolution, and the rules of reading."""
        return digest({"source": "hovernet-json", "mpp": self.mpp, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.files.matching.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file; see `dirl.cells.files.matching.CellSource`."""
        content = read_json_file(file, hovernet_json.REMEDY)
        if not is_hovernet(content):
            raise ConfigError(
                'holds no "nuc", as HoVer-Net\'s files do', where=file, remedy=hovernet_json.REMEDY
            )
        found = hovernet_nuclei(content, file, size_px, mpp, self.mpp)
        return tool_placed(found, file, size_px, mpp, (0, 0, *size_px), "level0")


@dataclass(frozen=True)
class CellViTJSON:
    """CellViT's JSON in a folder, in files or folders named as slides.

    Attributes
    ----------
    place
        Folder, or the one file of a store of one slide: ``cells.json``, or ``cell_detection.json``.
    mpp
        µm/px of the coordinates. By default they are brought to level 0 by what a file states.
    frame
        Where coordinates begin on a slide that QuPath crops: ``auto``, as CellViT does, ``qupath`` or
        ``level0``; see `dirl.cells.files.frames.choose_frame`.
    """

    place: str
    mpp: float | None = None
    frame: str = "auto"

    def __post_init__(self) -> None:
        check_place(self.place)
        check_mpp(self.mpp, f"cellvit-json:{self.place}")
        check_frame(self.frame, f"cellvit-json:{self.place}")

    @property
    def digest(self) -> str:
        """Changes with the settings, and the rules of reading."""
        return digest({"source": "cellvit-json", "mpp": self.mpp, "frame": self.frame, "rules": RULES})

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.files.matching.CellSource`."""
        return source_files(check_place(self.place), SUFFIXES, tiles, slide_id)

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file; see `dirl.cells.files.matching.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> OwnNuclei:
        """Read a file of a slide; see `dirl.cells.files.matching.FramedSource`."""
        content = read_json_file(file, cellvit_json.REMEDY)
        if not is_cellvit(content):
            raise ConfigError(
                'holds no "cells", as CellViT\'s files do', where=file, remedy=cellvit_json.REMEDY
            )
        found = cellvit_nuclei(content, file, size_px, mpp, self.mpp)
        return tool_placed(found, file, size_px, mpp, bounds, self.frame)


def check_mpp(mpp: Any, where: str) -> None:
    """Refuse a stated resolution that is no number above 0.

    Raises
    ------
    ConfigError
        If it is none.
    """
    if mpp is not None and not (isinstance(mpp, int | float) and mpp > 0):
        raise ConfigError(f"mpp {mpp!r} is no number above 0", where=where, remedy="mpp=0.25")
