"""Random reads from the tile store beside reads of flat files: bytes, decoded images, cells."""

import os
import tempfile
from pathlib import Path

import numpy as np
import simplejpeg
from harness import compare, write

from dirl.config import TileConfig
from dirl.store.build import tile
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import CellStore, TileStore
from dirl.store.label_codec import decode_labels, decode_regions, encode_labels, encode_regions
from dirl.synthetic import SyntheticSlide
from dirl.synthetic import write as draw

READS = 2000
SIZE_PX = 256
EMPTY: dict[str, list[float]] = {"id": [], "x": [], "y": [], "area_um2": [], "touches_border": []}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        slides = [draw(root / f"{seed}.tiff", seed) for seed in range(2)]
        config = TileConfig(size_px=SIZE_PX, stride_px=64)
        store = tile([root / "0.tiff", root / "1.tiff"], root / "store", config, quiet=True)
        flat = _flat_files(store, root / "flat")
        cells = _cells(store, slides)
        order = np.random.default_rng(0).integers(0, len(store), READS).tolist()
        labels = [encode_labels(cells.labels(i)) for i in range(200)]
        regions = [encode_regions(cells.regions(i)) for i in range(200)]
        results = {
            "page_cache": "warm",
            "tiles": len(store),
            "bytes_per_tile": float(np.mean(store.index["length"].to_numpy())),
            "bytes_per_labels": float(np.mean([len(data) for data in labels])),
            "raw": compare(
                "random reads of JPEG bytes",
                {
                    "flat_files": lambda: [_read(flat[i]) for i in order],
                    "store": lambda: [store.jpeg(i) for i in order],
                },
                count=READS,
                unit="read",
            ),
            "decoded": compare(
                "random reads, decoded",
                {
                    "flat_files": lambda: [
                        simplejpeg.decode_jpeg(_read(flat[i]), colorspace="RGB") for i in order[:400]
                    ],
                    "store": lambda: [store.image(i) for i in order[:400]],
                },
                count=400,
                unit="read",
            ),
            "cells": compare(
                "decoding of one tile's cells",
                {
                    "regions": lambda: [decode_regions(data) for data in regions],
                    "labels": lambda: [decode_labels(data) for data in labels],
                },
                count=200,
                unit="tile",
            ),
        }
    print(write("store", results))


def _flat_files(store: TileStore, folder: Path) -> list[tuple[str, int]]:
    """Write each tile to a file of its own; returns names and lengths."""
    folder.mkdir()
    for i in range(len(store)):
        (folder / f"{i}.jpg").write_bytes(store.jpeg(i))
    return [(str(folder / f"{i}.jpg"), len(store.jpeg(i))) for i in range(len(store))]


def _read(file: tuple[str, int]) -> bytes:
    """The quickest way that Python has to read a file whose length is known."""
    descriptor = os.open(file[0], os.O_RDONLY)
    data = os.read(descriptor, file[1])
    os.close(descriptor)
    return data


def _cells(store: TileStore, slides: list[SyntheticSlide]) -> CellStore:
    """Cut the truth at every tile."""
    rows = store.index.to_pylist()
    for slide_id, slide in zip(("0", "1"), slides, strict=True):
        boxes = [
            (row["tile_id"], slide.labels[row["y"] :, row["x"] :][:SIZE_PX, :SIZE_PX])
            for row in rows
            if row["slide_id"] == slide_id
        ]
        items = ((tile_id, labels, np.where(labels > 0, 1, 2)) for tile_id, labels in boxes)
        write_cells(store.path, "truth", slide_id, items, EMPTY)
    merge_cells(store.path, "truth")
    (cells_dir(store.path, "truth") / "card.json").write_text('{"stage": "cells", "config": {}}')
    return store.cells("truth")


if __name__ == "__main__":
    main()
