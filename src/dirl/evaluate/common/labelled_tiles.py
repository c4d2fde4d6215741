"""Labelled tiles of a store, and the task that they make."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.config import ProbeConfig
from dirl.core.progress import bar
from dirl.evaluate.common.labels import Labels
from dirl.evaluate.common.task import TileTask, make_task
from dirl.store.colour import LEVELS, colour_histogram
from dirl.store.dataset import TileStore

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class LabelledTiles:
    """Labelled tiles of a store.

    Attributes
    ----------
    numbers : ndarray of shape (t,)
        Numbers in the store, ascending.
    given
        Their classes, and folds and groups if named.
    tile_ids, slide_ids, patient_ids, labels, centres : ndarray of shape (t,), str
        Empty if unknown.
    ready_made : ndarray of shape (t,), bool
        Whether a tile came ready-made, from an unknown slide.
    """

    numbers: NDArray[np.int64]
    given: Labels
    tile_ids: Strings
    slide_ids: Strings
    patient_ids: Strings
    labels: Strings
    centres: Strings
    ready_made: NDArray[np.bool_]

    @property
    def sources(self) -> Strings:
        """Patient, else slide, of each tile, ``(t,)``."""
        return np.where(self.patient_ids != "", self.patient_ids, self.slide_ids)


def take_tiles(store: TileStore, given: Labels, numbers: NDArray[np.int64]) -> LabelledTiles:
    """Take the labelled ones among some tiles.

    Parameters
    ----------
    store
        The store.
    given
        Labels of all its tiles.
    numbers : ndarray of shape (n,)
        Numbers of the tiles, ascending.
    """
    numbers = numbers[given.classes[numbers] != ""]
    slides = store.slide_ids[numbers]
    patients, centres = store.patient_ids[numbers], store.centres[numbers]
    here = given.take(numbers)
    return LabelledTiles(
        numbers=numbers,
        given=here,
        tile_ids=store.tile_ids[numbers],
        slide_ids=slides,
        patient_ids=patients if here.patients is None else here.patients,
        labels=store.labels[numbers],
        centres=centres if here.centres is None else np.where(here.centres == "", centres, here.centres),
        ready_made=np.array([store.slides[slide].kind == "tiles" for slide in slides.tolist()], bool),
    )


def prepare_task(
    store: TileStore, given: Labels, numbers: NDArray[np.int64], config: ProbeConfig, *, quiet: bool = False
) -> tuple[LabelledTiles, NDArray[np.float32], TileTask]:
    """Take the labelled ones among some tiles, read their colours, and deal them to folds.

    This comes before an output is claimed, so labels that do not fit the folds are refused at once.

    Parameters
    ----------
    store, given, numbers
        As `take_tiles` takes them.
    config
        Folds, what is kept together, resamples, seed.
    quiet
        Show no progress.

    Returns
    -------
    tuple
        The tiles, their colour histograms ``(t, 512)``, and the task.

    Raises
    ------
    ConfigError
        If there are fewer than two classes, or too few tiles or groups for the folds.
    """
    tiles = take_tiles(store, given, numbers)
    colours = np.empty((len(tiles.numbers), LEVELS**3), np.float32)
    with bar("Reading colours", len(colours), quiet=quiet) as advance:
        for row, number in enumerate(tiles.numbers.tolist()):
            colours[row] = colour_histogram(store.image(number))
            advance()
    return tiles, colours, make_task(tiles, tiles.given, tiles.ready_made, colours, config)
