"""What becomes known of a slide's nuclei on the way to its tiles, and who is told."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.cells.base import Image

# Ready-made tiles, or tiles of the user's own nuclei, in a picture.
SHOWN_TILES = 16

Item = tuple[str, NDArray[np.int32], NDArray[np.uint8]]
"""A tile's id, labels (h, w), and regions (h, w) as in `dirl.prior.regions.region_ids`."""


def silent(tiles: float) -> None:
    """Keep to oneself how far it is."""


@dataclass(frozen=True)
class Told:
    """Who is told what while the tiles of a slide are labelled.

    Attributes
    ----------
    nuclei
        Takes columns of the table of nuclei.
    draw
        Takes images, and the labels in them, for a picture.
    tick
        Takes how many tiles more are done, in whole or in part.
    notes
        What was mended or left out on the way, counted.
    about
        What else is kept with the slide's numbers.
    """

    nuclei: Callable[..., None]
    draw: Callable[[Sequence[Image], Sequence[NDArray[np.int32]]], None]
    tick: Callable[[float], None] = silent
    notes: Counter[str] = field(default_factory=Counter)
    about: dict[str, Any] = field(default_factory=dict)
