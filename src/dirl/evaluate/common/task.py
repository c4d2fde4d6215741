"""The task that every set of features gets: labelled tiles, their classes, folds and units, and caveats."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dirl.config import TaskConfig
from dirl.core.errors import ConfigError
from dirl.core.intervals import Units, choose_units
from dirl.core.progress import bar
from dirl.evaluate.common.labels import Labels, TileColumns
from dirl.evaluate.common.records import Leak, Resampling, SplitRecord, TaskFacts
from dirl.evaluate.common.splits import Sources, Split, find_sources, make_split
from dirl.store.colour import LEVELS, colour_histogram
from dirl.store.dataset import TileStore

Strings = NDArray[np.str_]

# Balanced accuracy of colour alone above which a split counts as leaking.
LEAK = 0.8


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

    @property
    def have_centres(self) -> bool:
        """Whether the centre of every tile is known."""
        return bool((self.centres != "").all())


@dataclass(frozen=True)
class TileTask:
    """A classification of the labelled tiles, in their order.

    Attributes
    ----------
    classes : ndarray of shape (t,)
        From 0.
    names
        Of the classes.
    split
        Folds.
    units
        Units of the bootstrap, among the tiles that some fold holds out.
    sources
        Where tiles come from; None if unknown.
    config
        As given.
    """

    classes: NDArray[np.int64]
    names: tuple[str, ...]
    split: Split
    units: Units
    sources: Sources | None
    config: TaskConfig

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether some fold holds a tile out, bool ``(t,)``."""
        return self.split.folds >= 0


def prepare_task(
    store: TileStore, given: Labels, numbers: NDArray[np.int64], config: TaskConfig, *, quiet: bool = False
) -> tuple[LabelledTiles, NDArray[np.float32], TileTask]:
    """Take the labelled ones among some tiles, read their colours, and deal them to folds.

    This comes before an output is claimed, so labels that do not fit the folds are refused at once; see
    `make_task`. `given` labels all tiles of the store. `numbers` (n,) are tiles to choose from, ascending.

    Returns
    -------
    tuple
        The tiles, their colour histograms ``(t, 512)``, and the task.
    """
    tiles = _take_tiles(store, given, numbers)
    colours = np.empty((len(tiles.numbers), LEVELS**3), np.float32)
    with bar("Reading colours", len(colours), quiet=quiet) as advance:
        for row, number in enumerate(tiles.numbers.tolist()):
            colours[row] = colour_histogram(store.image(number))
            advance()
    return tiles, colours, make_task(tiles, tiles.given, tiles.ready_made, colours, config)


def _take_tiles(store: TileStore, given: Labels, numbers: NDArray[np.int64]) -> LabelledTiles:
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


def make_task(
    tiles: TileColumns,
    given: Labels,
    ready_made: NDArray[np.bool_],
    colours: NDArray[np.floating] | None,
    config: TaskConfig,
) -> TileTask:
    """Take the labelled ones among all tiles, and deal them to folds.

    `ready_made` (t,) tells tiles from unknown slides. `colours` (t, k) are needed to cluster stain if the
    tiles' sources are unknown.

    Raises
    ------
    ConfigError
        If there are fewer than two classes, or too few tiles or groups for the folds.
    """
    labelled = given.classes != ""
    names, classes = np.unique(given.classes[labelled], return_inverse=True)
    if len(names) < 2:
        raise ConfigError(
            f"all {labelled.sum()} labelled tiles are of the class {names[0]}" if len(names) else "no labels",
            where="labels",
            remedy="name labels of at least two classes",
        )
    folds, groups = (None if each is None else each[labelled] for each in (given.folds, given.groups))
    patients = tiles.patient_ids if given.patients is None else given.patients
    sources = find_sources(
        None if config.groups == "patient" else groups,
        patients[labelled],
        tiles.slide_ids[labelled],
        ready_made[labelled],
    )
    split = make_split(
        tiles.tile_ids[labelled],
        classes.astype(np.int64),
        tuple(names.tolist()),
        config,
        sources=sources,
        given=folds,
        colours=None if colours is None else colours[labelled],
    )
    held_out = split.folds >= 0
    ids = None if sources is None else sources.ids[held_out]
    units = choose_units(ids, int(held_out.sum()), config.bootstrap, config.seed)
    if sources is not None and units.kind == "slides":
        units = replace(units, kind=sources.kind)
    return TileTask(classes.astype(np.int64), tuple(names.tolist()), split, units, sources, config)


def task_facts(task: TileTask) -> TaskFacts:
    """Return what a summary says of its task."""
    return {
        "classes": dict(zip(task.names, np.bincount(task.classes).tolist(), strict=True)),
        "tiles": int(task.held_out.sum()),
        "split": SplitRecord(
            scheme=task.split.scheme,
            folds=len(task.split),
            groups=len(np.unique(task.split.groups)),
            digest=task.split.digest,
        ),
        "interval": Resampling.of(task.units),
        "chance": 1 / len(task.names),
    }


def leakage(histogram: float) -> Leak:
    """Flag a split in which the nearest neighbours by colour histogram score above `LEAK`."""
    return Leak(histogram_knn=histogram, threshold=LEAK, flagged=histogram > LEAK)


def caveats(task: TileTask, unknown: int, leak: Leak | None = None) -> list[str]:
    """Return what a reader of the scores must know.

    `unknown` rows of the labels name a missing tile or slide. `leak` is None if nobody knows whether colour
    alone tells the classes.
    """
    notes = []
    if task.split.scheme == "stain":
        notes.append(
            "Folds are clusters of stain within each class. Tiles of one slide may still be on both "
            "sides, so scores compare encoders and say little about new slides."
        )
    if leak and leak.flagged:
        known = task.split.scheme in ("patients", "slides")
        remedy = f"Check the {task.split.scheme}" if known else "Name patients, slides or groups"
        notes.append(
            f"This split probably leaks: colour alone scores {leak.histogram_knn:.2f}, above {LEAK}. Then "
            f"scores prove nothing. {remedy}. Otherwise the classes differ in colour itself."
        )
    if task.units.kind == "tiles":
        why = "are unknown" if task.sources is None else "are too few to resample"
        notes.append(f"Patients and slides {why}: intervals are over tiles, and so too narrow.")
    if unknown:
        notes.append(f"Rows of the labels that name missing tiles or slides: {unknown}.")
    return notes
