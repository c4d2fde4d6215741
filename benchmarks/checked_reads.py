"""Cost of checking the bytes of a read: of a tile over its decoding, of a file over its reading."""

import hashlib
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import simplejpeg
from harness import compare, write

from dirl.config import TileConfig
from dirl.features.feature_files import write_rows
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.store.label_codec import decode_labels, encode_labels
from dirl.synthetic import write as draw

TILES = 64
REPEATS = 15
ROWS, WIDTH = 20_000, 384


def main() -> None:
    """Measure on a synthetic slide, or on the slide that is named."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slide = draw(root / "0.tiff", 0)
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "0.tiff"
        stores = {
            f"{size} px at {mpp} µm/px": tile(
                [path], root / f"store{size}", TileConfig(size_px=size, mpp=mpp), quiet=True
            )
            for size, mpp in ((256, 0.5), (224, 1.0))
        }
        labels = [
            encode_labels(slide.labels[y : y + 256, x : x + 256])
            for y in range(0, 1024, 256)
            for x in range(0, 1024, 256)
        ]
        results = {
            "slide": path.name if len(sys.argv) > 1 else "synthetic",
            "page_cache": "warm",
            "tiles": {name: _tiles(name, store) for name, store in stores.items()},
            "labels": compare(
                "labels of a tile",
                {
                    "decode": lambda: [decode_labels(data) for data in labels],
                    "crc32": lambda: [zlib.crc32(data) for data in labels],
                },
                REPEATS,
                count=len(labels),
                unit="tile",
            ),
            "features": _features(root / "slide.h5"),
        }
    print(write("checked_reads", results))


def _tiles(name: str, store: TileStore) -> dict[str, Any]:
    jpegs = [store.jpeg(i) for i in range(min(len(store), TILES))]
    result = compare(
        f"tiles of {name}",
        {
            "decode": lambda: [simplejpeg.decode_jpeg(data, colorspace="RGB") for data in jpegs],
            "crc32": lambda: [zlib.crc32(data) for data in jpegs],
        },
        REPEATS,
        count=len(jpegs),
        unit="tile",
    )
    return result | {"bytes_per_tile": float(np.mean([len(data) for data in jpegs]))}


def _features(path: Path) -> dict[str, Any]:
    values = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32)
    write_rows(path, {"features": values, "coords": np.zeros((ROWS, 2), np.int64)})

    def read() -> None:
        with h5py.File(path) as file:
            file["features"][:]

    def check() -> None:
        with path.open("rb") as handle:
            hashlib.file_digest(handle, "sha256")

    result = compare("features of a slide", {"read": read, "sha256": check}, REPEATS, count=ROWS, unit="tile")
    return result | {"bytes": path.stat().st_size}


if __name__ == "__main__":
    main()
