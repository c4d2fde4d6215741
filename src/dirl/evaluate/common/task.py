"""The task that every set of features gets: the labelled tiles, their classes, folds and units."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dirl.config import ProbeConfig
from dirl.core.errors import ConfigError
from dirl.core.intervals import Units, choose_units
from dirl.evaluate.common.labels import Labels, TileColumns
from dirl.evaluate.common.records import Resampling, SplitRecord, TaskFacts
from dirl.evaluate.common.splits import Sources, Split, find_sources, make_split


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
    config: ProbeConfig

    @property
    def held_out(self) -> NDArray[np.bool_]:
        """Whether some fold holds a tile out, bool ``(t,)``."""
        return self.split.folds >= 0


def make_task(
    tiles: TileColumns,
    given: Labels,
    ready_made: NDArray[np.bool_],
    colours: NDArray[np.floating] | None,
    config: ProbeConfig,
) -> TileTask:
    """Take the labelled tiles, and deal them to folds.

    Parameters
    ----------
    tiles
        All tiles, labelled or not.
    given
        Their labels.
    ready_made : ndarray of shape (t,), bool
        Whether a tile came ready-made, from an unknown slide.
    colours : ndarray of shape (t, k), or None
        Used to cluster stain if the tiles' sources are unknown.
    config
        Folds, what is kept together, resamples, seed.

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
        "interval": Resampling(
            level=0.95, resamples=task.config.bootstrap, over=task.units.kind, units=len(task.units)
        ),
        "chance": 1 / len(task.names),
    }
