"""Tiles of 224 px at 0.5 µm/px for the second part of the evidence.

``python studies/all_tissue.py DATA TILES``: DATA holds the folders that docs/evidence-2.md names. TILES gets
a sub-folder for each source. Images at another resolution are resized. Then::

    dirl tile TILES --mpp-override 0.5 --cohort TILES/slides.csv --out store
    dirl cells store
"""

import argparse
from pathlib import Path

from PIL import Image

SIDE, MPP = 224, 0.5
# Folder of the data, µm/px, and step between tiles; None keeps the file as it is.
SOURCES: dict[str, tuple[float, int | None]] = {
    "lung3": (0.5, None),
    "lymph2": (0.5, None),
    "m2c90": (0.5, 138),
    "glas85": (0.62, SIDE),
    "colorectal5": (1.0, SIDE),
    "ebhi": (1.0, SIDE),
}


def starts(length: int, step: int) -> list[int]:
    """Begin the tiles of a side evenly, so that the first and the last touch its ends."""
    last = length - SIDE
    count = max(1, round(last / step) + 1)
    return [round(i * last / max(count - 1, 1)) for i in range(count)]


def cut(path: Path, folder: Path, mpp: float, step: int) -> None:
    """Cut an image into tiles, after it is brought to `MPP`."""
    image = Image.open(path).convert("RGB")
    if mpp != MPP:
        size = (round(image.width * mpp / MPP), round(image.height * mpp / MPP))
        image = image.resize(size, Image.Resampling.BICUBIC)
    for y in starts(image.height, step):
        for x in starts(image.width, step):
            tile = image.crop((x, y, x + SIDE, y + SIDE))
            tile.save(folder / f"{path.stem}_{y}_{x}.jpg", quality=95, subsampling=0)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("data", type=Path)
parser.add_argument("tiles", type=Path)
given = parser.parse_args()
for source, (mpp, step) in SOURCES.items():
    folder = given.tiles / source
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((given.data / source).rglob("*.jpg")):
        if step is not None:
            cut(path, folder, mpp, step)
        elif not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())
    print(f"{source}: {len(list(folder.iterdir()))} tiles")
rows = [f"{source},{source}" for source in SOURCES]
(given.tiles / "slides.csv").write_text("\n".join(["slide_id,centre", *rows, ""]))
