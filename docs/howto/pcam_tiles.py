"""Write PCam's HDF5 files as folders of tiles, a folder a split and in it one a class, for `dirl tile`.

Usage: python pcam_tiles.py FOLDER_OF_H5 OUT
"""

import sys
from pathlib import Path

import h5py
from PIL import Image

CLASSES = ("normal", "tumor")
BLOCK = 1024


def main(source: Path, out: Path) -> None:
    """Write every split that is there."""
    for split in ("train", "valid", "test"):
        images, labels = (source / f"camelyonpatch_level_2_split_{split}_{part}.h5" for part in "xy")
        if not images.exists():
            continue
        for name in CLASSES:
            (out / split / name).mkdir(parents=True, exist_ok=True)
        with h5py.File(images) as x, h5py.File(labels) as y:
            for start in range(0, len(x["x"]), BLOCK):
                stop = start + BLOCK
                for i, (tile, label) in enumerate(
                    zip(x["x"][start:stop], y["y"][start:stop].ravel(), strict=True), start
                ):
                    Image.fromarray(tile).save(out / split / CLASSES[int(label)] / f"{split}_{i:06d}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
