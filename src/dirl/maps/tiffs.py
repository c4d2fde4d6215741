"""A map as two pyramidal TIFFs: floats for analysis (OME-TIFF), bytes for every viewer that uses OpenSlide.

OpenSlide refuses floats, reads one level of an OME pyramid, and reads grey with alpha wrongly. So the bytes
are written as a plain pyramid in RGBA, with red, green and blue equal to the value.
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from dirl.core.files import replacing
from dirl.maps.grid import MapGrid

Floats = NDArray[np.float32]

TILE_PX = 256
NAMESPACE = uuid.UUID("0c7f3f0e-52f1-4f8e-9a44-6f1f3a3b7d52")


def write_floats(
    path: Path, levels: Sequence[Floats], grid: MapGrid, names: Sequence[str], about: Mapping[str, object]
) -> None:
    """Write a float32 OME-TIFF, with coarser levels as SubIFDs and one channel for each name.

    Each level has shape (c, rows, columns), from fine to coarse; NaN where nothing is mapped. `about` becomes
    the image's description, as JSON.
    """
    planes = len(names)
    position = {f"Position{axis}": [at] * planes for axis, at in zip("XY", grid.origin_um, strict=True)}
    units = {f"Position{axis}Unit": ["µm"] * planes for axis in "XY"}
    metadata = {
        "axes": "CYX",
        "UUID": str(_identifier(levels[0], names, about)),
        "Name": path.name.removesuffix(".ome.tif"),
        "Description": json.dumps(about, ensure_ascii=False),
        "Channel": {"Name": list(names)},
        "Plane": position | units,
        **{f"PhysicalSize{axis}": grid.token_um for axis in "XY"},
        **{f"PhysicalSize{axis}Unit": "µm" for axis in "XY"},
    }
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True, ome=True) as tiff:
        for number, level in enumerate(levels):
            first = {"subifds": len(levels) - 1, "metadata": metadata}
            tiff.write(
                level,
                photometric="minisblack",
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                **_resolution(grid, 2**number),
                **({"subfiletype": 1, "metadata": None} if number else first),
            )


def write_bytes(
    path: Path, levels: Sequence[Floats], grid: MapGrid, high: float, about: Mapping[str, object]
) -> None:
    """Write one channel as an 8-bit pyramid that OpenSlide opens: 0 is 0, 255 is `high` and above.

    Each level has shape (rows, columns), from fine to coarse; NaN becomes transparent. `about` becomes the
    image's description, as JSON.
    """
    with replacing(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=True) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                _rgba_tiles(level, high),
                shape=(*level.shape, 4),
                dtype=np.uint8,
                photometric="rgb",
                extrasamples=["assocalpha"],
                tile=(TILE_PX, TILE_PX),
                compression="zlib",
                subfiletype=int(number > 0),
                description=None if number else json.dumps(about),  # ASCII: the tag allows no more
                metadata=None,
                **_resolution(grid, 2**number),
            )


def _identifier(level: Floats, names: Sequence[str], about: Mapping[str, object]) -> uuid.UUID:
    """Derive the identifier from the content. That of tifffile holds the time and a network address."""
    made = hashlib.sha256(json.dumps([list(names), about], sort_keys=True).encode())
    for channel in level:
        made.update(np.ascontiguousarray(channel).tobytes())
    return uuid.uuid5(NAMESPACE, made.hexdigest())


def _rgba_tiles(level: Floats, high: float) -> Iterator[NDArray[np.uint8]]:
    for top in range(0, level.shape[0], TILE_PX):
        for left in range(0, level.shape[1], TILE_PX):
            values = level[top : top + TILE_PX, left : left + TILE_PX]
            there = np.isfinite(values)
            tile = np.zeros((TILE_PX, TILE_PX, 4), np.uint8)
            grey = np.where(there, np.clip(values / high, 0, 1), 0) * 255 + 0.5
            tile[: values.shape[0], : values.shape[1], :3] = grey[..., None].astype(np.uint8)
            tile[: values.shape[0], : values.shape[1], 3] = there * np.uint8(255)
            yield tile


def _resolution(grid: MapGrid, downsample: int) -> dict[str, Any]:
    pixels_per_cm = 1e4 / (grid.token_um * downsample)
    return {"resolution": (pixels_per_cm, pixels_per_cm), "resolutionunit": "CENTIMETER"}
