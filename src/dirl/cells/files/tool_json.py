"""Nuclei from the JSON of HoVer-Net and CellViT: ``hovernet-json:DIR`` and ``cellvit-json:DIR``.

``geojson:DIR`` reads such files too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from dirl.cells.files import cellvit_json, hovernet_json
from dirl.cells.files.cellvit_json import is_cellvit, read_cellvit
from dirl.cells.files.folder_source import FolderSource
from dirl.cells.files.frames import FRAMES, AskedFrame
from dirl.cells.files.hovernet_json import is_hovernet, read_hovernet
from dirl.cells.files.json_fields import read_json_file
from dirl.cells.files.polygon_nuclei import PolygonNuclei
from dirl.cells.source import FileNuclei
from dirl.core.errors import ConfigError
from dirl.slides.base import Box

Reader = Callable[[Mapping[str, Any], Path, tuple[int, int], float, float | None], PolygonNuclei]


def tool_reader(content: Any) -> Reader | None:
    """Return the reader for the layout of a JSON file's content; None if it is not a tool's."""
    if is_hovernet(content):
        return read_hovernet
    return read_cellvit if is_cellvit(content) else None


@dataclass(frozen=True)
class HoVerNetJSON(FolderSource):
    """HoVer-Net's JSON files in a folder.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store. Names of types are read from a ``type_info.json`` in
        a file's folder, or in the one above.
    mpp
        µm/px of the coordinates. By default they are scaled to level 0 by the magnification that a file
        states, where 40 is 0.25 µm/px.
    """

    name: ClassVar = "hovernet-json"
    suffixes: ClassVar = (".json",)
    rules: ClassVar = 1

    mpp: float | None = None

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        content = read_json_file(file, hovernet_json.REMEDY)
        if not is_hovernet(content):
            reason = 'has no "nuc", which HoVer-Net\'s files have'
            raise ConfigError(reason, where=file, remedy=hovernet_json.REMEDY)
        return read_hovernet(content, file, size_px, mpp, self.mpp).on_image(file, size_px, mpp)


@dataclass(frozen=True)
class CellViTJSON(FolderSource):
    """CellViT's JSON in a folder, in files or folders named after slides.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store: ``cells.json``, or ``cell_detection.json``.
    frame
        Origin of the coordinates on a slide that QuPath crops: ``qupath``, ``level0``, or ``auto``: QuPath's
        frame, unless centres lie outside of it; see `dirl.cells.files.frames.choose_frame`.
    mpp
        µm/px of the coordinates. By default they are scaled to level 0 by what a file states.
    """

    name: ClassVar = "cellvit-json"
    suffixes: ClassVar = (".json",)
    rules: ClassVar = 1

    frame: AskedFrame = FRAMES[0]
    mpp: float | None = None

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        content = read_json_file(file, cellvit_json.REMEDY)
        if not is_cellvit(content):
            reason = 'has no "cells", which CellViT\'s files have'
            raise ConfigError(reason, where=file, remedy=cellvit_json.REMEDY)
        found = read_cellvit(content, file, size_px, mpp, self.mpp)
        return found.on_slide(self.frame, file, size_px, mpp, bounds)
