"""The user's own masks: a picture of class numbers for each slide or tile, 0 for the background."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.frames import bounds_of
from dirl.cells.files.label_map_checks import check_numbers
from dirl.cells.files.label_maps import LabelMaps, cut_pixels
from dirl.cells.files.label_pictures import SAVE_PIXELS, read_names, read_picture
from dirl.cells.files.matching import fingerprint
from dirl.cells.source import PixelGrid, tile_grid
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.core.spec import parse_options
from dirl.store.dataset import TileStore

Ints = NDArray[np.int32]

OPTIONS = ("frame", "mpp")
NAMES = "classes.json"
MOST_CLASSES = 50


@dataclass(frozen=True)
class Masks:
    """Masks of some slides of a store, found by their names like label maps; see `open_masks`.

    Attributes
    ----------
    source
        Folder, resolution and frame.
    files
        For each slide ``{None: file}``, or a file for each tile_id.
    names
        Names of classes by their numbers. A number without a name is its own name.
    """

    source: LabelMaps
    files: Mapping[str, Mapping[str | None, Path]]
    names: Mapping[int, str]

    @property
    def digest(self) -> str:
        """Digest of the contents of all files, of the options and of the names."""
        content = {slide: fingerprint(files) for slide, files in self.files.items()}
        return digest([self.source.digest, content, {str(i): name for i, name in self.names.items()}])

    def read(self, store: TileStore, numbers: NDArray[np.int64]) -> Ints:
        """Class numbers of the pixels of tiles, shape (t, side, side), at the resolution of the tiles.

        Raises
        ------
        ConfigError
            If a file cannot be read, does not cover its image, or holds instances.
        """
        side = store.spec.size_px
        found = np.zeros((len(numbers), side, side), np.int32)
        slides = store.slide_ids[numbers]
        for slide, files in self.files.items():
            record, rows = store.slides[slide], np.flatnonzero(slides == slide)
            if None in files:
                file = files[None]
                mask = _read(file)
                bounds = bounds_of(record)
                scale, frame = self.source.place_on(mask.shape, record.size_px, record.mpp, bounds, file)
                for row in rows.tolist():
                    grid = tile_grid(store, int(numbers[row]))
                    found[row] = cut_pixels(mask, scale, frame.offset_px, grid)
                continue
            for row in rows.tolist():
                file = files[str(store.tile_ids[numbers[row]])]
                mask = _read(file)
                scale, _ = self.source.place_on(mask.shape, (side, side), store.spec.mpp, None, file)
                found[row] = cut_pixels(mask, scale, (0, 0), PixelGrid(0, 0, side))
        return found


def open_masks(spec: str, store: TileStore, numbers: NDArray[np.int64]) -> Masks:
    """Find the masks of some tiles, ``DIR[,mpp=UM][,frame=auto|qupath|level0]``.

    The files are named after slides or tiles, as those of ``dirl cells --segmenter labels:DIR`` are.
    ``DIR/classes.json`` may name the classes, as in ``{"1": "gland"}``.

    Raises
    ------
    ConfigError
        If there is no such folder or option, or an image has no file.
    """
    place, options = parse_options(spec)
    if unknown := sorted(options.keys() - {*OPTIONS}):
        remedy = f"there are: {', '.join(OPTIONS)}"
        raise ConfigError(f"takes no option {', '.join(unknown)}", where=f"masks {spec}", remedy=remedy)
    source = LabelMaps(place, **options)
    slides = sorted(set(store.slide_ids[numbers].tolist()))
    folder = Path(place).expanduser()
    return Masks(
        source=source,
        files={slide: source.files(store, slide) for slide in slides},
        names=read_names((folder if folder.is_dir() else folder.parent) / NAMES),
    )


def _read(file: Path) -> Ints:
    pixels, _ = read_picture(file)
    whole = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    mask = check_numbers(whole, file, "class numbers", SAVE_PIXELS)
    if (count := len(np.unique(mask))) > MOST_CLASSES:
        raise ConfigError(
            f"holds {count} numbers: instances, not classes",
            where=file,
            remedy="save the number of a class in each pixel, for example labels > 0",
        )
    return mask
