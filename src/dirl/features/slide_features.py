"""Features of one slide, as the layouts of other tools need them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.features.feature_files import AGAIN, ROWS, Floats, read_rows
from dirl.features.hdf5 import array_of, numbers, open_hdf5

Content = Callable[[], bytes | memoryview]
"""Makes the content of a file."""


@dataclass(frozen=True)
class SlideFeatures:
    """A slide of an output of `dirl embed`.

    Attributes
    ----------
    file
        Its HDF5 file, which has the slide's name.
    encoder
        The encoder's name in folders and attributes of other tools; see `tool_name`.
    attributes
        Those of ``coords``: name of the slide, sizes of tiles and slide, magnifications and resolutions.
    ready_made
        Whether the tiles were ready-made, without places on a slide.
    """

    file: Path
    encoder: str
    attributes: Mapping[str, Any]
    ready_made: bool

    @property
    def slide_id(self) -> str:
        """Name of the slide."""
        return self.file.stem

    def read(self) -> tuple[Floats, NDArray[np.int64]]:
        """Read the features (t, d), and the tiles' top-left corners (t, 2) in level-0 pixels."""
        rows = read_rows(self.file, ROWS)
        return rows["features"], rows["coords"]


def open_slide(file: Path, encoder: str) -> SlideFeatures:
    """Read what does not depend on the number of tiles. A damaged file is a `StoreError`."""
    with open_hdf5(file, AGAIN) as opened:
        attributes = dict(array_of(opened, "coords").attrs)
        return SlideFeatures(file, encoder, attributes, bool(numbers(opened, "ready_made").any()))
