"""Labelled tiles of a store, and what is known of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.config import RobustConfig
from dirl.evaluate.labels import Labels, read_labels
from dirl.features.choice import choose_tiles
from dirl.store.dataset import TileStore

Strings = NDArray[np.str_]


@dataclass(frozen=True)
class DrawnTiles:
    """Labelled tiles of a store.

    Attributes
    ----------
    numbers : ndarray of shape (t,)
        In the store, ascending.
    given
        Their classes, and folds and groups if named.
    tile_ids, slide_ids, patient_ids, labels, centres : ndarray of shape (t,), str
        Empty where nothing is known.
    ready_made : ndarray of shape (t,), bool
        Came ready-made, from a slide that is not known.
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
        """Patient, or failing that slide, of each tile, ``(t,)``."""
        return np.where(self.patient_ids != "", self.patient_ids, self.slide_ids)


def draw_tiles(store: TileStore, labels: str, config: RobustConfig) -> DrawnTiles:
    """Draw labelled tiles, in proportion to what each slide has of them.

    Raises
    ------
    ConfigError
        If there are no such labels.
    """
    given = read_labels(store, labels)
    labelled = np.flatnonzero(given.classes != "")
    return take_tiles(store, given, choose_tiles(store, config.tiles, config.seed, labelled))


def take_tiles(store: TileStore, given: Labels, numbers: NDArray[np.int64]) -> DrawnTiles:
    """Take the labelled ones among some tiles.

    Parameters
    ----------
    store
        The store.
    given
        Labels of all its tiles.
    numbers : ndarray of shape (n,)
        Which tiles, ascending.
    """
    numbers = numbers[given.classes[numbers] != ""]
    slides = store.slide_ids[numbers]
    folds, groups = (None if each is None else each[numbers] for each in (given.folds, given.groups))
    return DrawnTiles(
        numbers=numbers,
        given=Labels(given.classes[numbers], folds, groups, given.unknown),
        tile_ids=store.tile_ids[numbers],
        slide_ids=slides,
        patient_ids=store.patient_ids[numbers],
        labels=store.labels[numbers],
        centres=store.centres[numbers],
        ready_made=np.array([store.slides[slide].kind == "tiles" for slide in slides.tolist()], bool),
    )
