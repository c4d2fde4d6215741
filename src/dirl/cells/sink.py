"""Where the nuclei of a slide go while its tiles are labelled: a table, a picture, notes, and progress."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Image
from dirl.cells.source import Frame

# Tiles in the picture of a slide.
SHOWN_TILES = 16

LabelledTile = tuple[str, NDArray[np.int32], NDArray[np.uint8]]
"""A tile's id, its labels (h, w), and its regions (h, w) as in `dirl.prior.regions.cell_region_ids`."""


class NucleiTable:
    """Columns of `dirl.store.cells_writer.NUCLEI_SCHEMA`, filled while the tiles are written."""

    def __init__(self) -> None:
        names = ("id", "x", "y", "area_um2", "class", "touches_border", "tile_id")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(
        self,
        ids: NDArray[np.integer],
        x: NDArray[np.floating],
        y: NDArray[np.floating],
        area_um2: NDArray[np.floating],
        classes: Sequence[str | None],
        touches_border: NDArray[np.bool_],
        tile_id: str | None = None,
    ) -> None:
        """Add nuclei, one value each of shape (n,); `tile_id` names the ready-made tile that they lie in."""
        self.columns["id"] += ids.tolist()
        self.columns["x"] += x.tolist()
        self.columns["y"] += y.tolist()
        self.columns["area_um2"] += area_um2.tolist()
        self.columns["class"] += classes
        self.columns["touches_border"] += touches_border.tolist()
        self.columns["tile_id"] += [tile_id] * len(ids)


def ignore(tiles: float) -> None:
    """Show no progress."""


@dataclass
class LabelSink:
    """Receives what is learned about a slide while its tiles are labelled.

    Attributes
    ----------
    draw
        Receives images and their labels for a picture.
    advance
        Receives the number of tiles finished since the last call, possibly a fraction.
    notes
        Counts of objects that were repaired or left out, by reason.
    frame
        The origin of a file's coordinates, if it had to be chosen.
    misplaced
        Why the nuclei may lie in wrong places; None without a reason.
    """

    draw: Callable[[Sequence[Image], Sequence[NDArray[np.int32]]], None]
    advance: Callable[[float], None] = ignore
    nuclei: NucleiTable = field(default_factory=NucleiTable)
    notes: Counter[str] = field(default_factory=Counter)
    frame: Frame | None = None
    misplaced: str | None = None
