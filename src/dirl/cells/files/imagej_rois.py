"""Nuclei from ImageJ: ``imagej-rois:DIR``, zips of ROIs, as StarDist and the ROI Manager write them.

A ROI has a header of 64 bytes, big-endian. Then come x and y of its points as 16-bit numbers, relative to its
corner. With subpixel resolution these are followed by 32-bit floats, relative to the image's corner.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.folder_source import FolderSource
from dirl.cells.files.polygon_nuclei import PolygonNuclei
from dirl.cells.geometry.polygons import polygon, repaired
from dirl.cells.source import FileNuclei
from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError
from dirl.slides.base import Box

REMEDY = "bring the zip that StarDist's export_imagej_rois or ImageJ's ROI Manager writes"
HEADER = 64
# Largest unpacked size of a zip: two million nuclei of StarDist.
MOST_BYTES = 1 << 30
# Types whose points are an outline: polygon, freehand, traced.
OUTLINES = (0, 7, 8)
SUBPIXEL, SUBPIXEL_VERSION = 128, 222


@dataclass(frozen=True)
class ImageJRois(FolderSource):
    """Zips of ROIs in a folder.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store.
    mpp
        µm/px of the coordinates. By default they are pixels of level 0, or for ready-made tiles pixels of the
        tile.
    """

    name: ClassVar = "imagej-rois"
    suffixes: ClassVar = (".zip",)

    mpp: float | None = None

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        rois = _unpacked(file)
        drawn = [(i, one) for i, roi in enumerate(rois, 1) if (one := _outline(roi)) is not None]
        if rois and not drawn:
            raise ConfigError("has ROIs, but none is a polygon", where=file, remedy=REMEDY)
        shapes = np.array([one for _, one in drawn], object)
        if self.mpp is not None and drawn:
            shapes = np.asarray(shapely.transform(shapes, lambda at: at * (self.mpp / mpp)))
        ids = np.array([i for i, _ in drawn], np.int32)
        notes = {"ROIs that are not polygons, left out": len(rois) - len(drawn)}
        return PolygonNuclei(shapes, ids, [None] * len(drawn), notes).on_image(file, size_px, mpp)


def _unpacked(file: Path) -> list[bytes]:
    reading = parsing(file, remedy=REMEDY, kind=ConfigError, what="cannot be read as a zip of ROIs")
    with reading, zipfile.ZipFile(file) as archive:
        entries = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
        if sum(one.file_size for one in entries) > MOST_BYTES:
            size = f"has more than {MOST_BYTES >> 20} MiB of ROIs when unpacked"
            raise ConfigError(size, where=file, remedy="bring a file for each tile")
        if not entries and archive.infolist():
            raise ConfigError("holds no ROIs", where=file, remedy=REMEDY)
        return [archive.read(one) for one in entries]


def _outline(roi: bytes) -> Any | None:
    """Valid polygon of a ROI; None if it is not a polygon, or has no area."""
    if len(roi) < HEADER or roi[:4] != b"Iout" or roi[6] not in OUTLINES:
        return None
    version, top, left, points, options = (
        int(_numbers(roi, at, 1, kind)[0])
        for at, kind in ((4, ">i2"), (8, ">i2"), (10, ">i2"), (16, ">u2"), (50, ">u2"))
    )
    if options & SUBPIXEL and version >= SUBPIXEL_VERSION and len(roi) >= HEADER + 12 * points:
        x, y = _numbers(roi, HEADER + 4 * points, 2 * points, ">f4").reshape(2, -1)
    elif len(roi) >= HEADER + 4 * points:
        x, y = _numbers(roi, HEADER, 2 * points, ">i2").reshape(2, -1)
        x, y = x + left, y + top
    else:
        return None
    drawn = polygon([np.stack([x, y], 1)])
    whole = drawn if drawn is None or drawn.is_valid else repaired(drawn)
    return whole if whole is not None and whole.area > 0 else None


def _numbers(roi: bytes, at: int, count: int, kind: str) -> NDArray[np.float64]:
    return np.frombuffer(roi, kind, count, at).astype(np.float64)
