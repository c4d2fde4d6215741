"""Hospitals: whether features follow the tissue or the centre where the slide was made."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from dirl.config import RobustConfig
from dirl.core.errors import ConfigError
from dirl.core.intervals import Estimate, choose_units, estimate, ratios
from dirl.core.randomness import hashes
from dirl.evaluate.common.labels import Labels
from dirl.evaluate.common.scores import score_classes
from dirl.evaluate.common.splits import Sources, check_whole
from dirl.evaluate.common.task import LabelledTiles, TileTask, make_task
from dirl.evaluate.robust.score import fold_scores
from dirl.evaluate.robust.summary import Accuracies, CentreNaming, CentreScores, LeftOutScores
from dirl.features.knn import unit_rows

R = TypeVar("R")
Floats = NDArray[np.floating]
Strings = NDArray[np.str_]


def across_centres(
    values: Floats,
    tiles: LabelledTiles,
    colours: Floats,
    config: RobustConfig,
    advance: Callable[..., None],
) -> CentreScores:
    """Measure in three ways what the centre does to features (t, d) of undamaged tiles.

    What these tiles do not allow is None, with the reason in ``notes``. Colours (t, k) are used to cluster
    stain if the tiles' sources are unknown.
    """
    # Folds and groups are given here, by centre and patient, whatever the classes are scored on.
    by_place = config.model_copy(update={"groups": "given"})
    notes: list[str] = []

    def measured(name: str, measure: Callable[[], R]) -> R | None:
        try:
            return measure()
        except ConfigError as error:
            notes.append(f"{name} is not measured: {error.reason}.")
            return None

    classes = tiles.given.classes
    index = measured(
        "The robustness index",
        lambda: robustness_index(values, classes, tiles.centres, tiles.sources, config),
    )
    left = measured("A centre left out", lambda: left_out(values, tiles, colours, by_place, advance))
    naming = measured("Naming the centre", lambda: name_centres(values, tiles, colours, by_place, advance))
    return CentreScores(
        centres=np.unique(tiles.centres).tolist(),
        notes=notes,
        robustness_index=index,
        left_out=left,
        named=naming,
    )


def robustness_index(
    values: Floats, classes: Strings, centres: Strings, sources: Strings, config: RobustConfig
) -> Estimate:
    """Share of neighbours by class among those by class or by centre (de Jong et al., arXiv 2501.18055).

    Of the nearest neighbours by cosine, SO have the query's class and another centre, and OS another class
    and the query's centre. The index is SO / (SO + OS). It is 1 if features follow the tissue, and 0 if they
    follow the centre. Neighbours of the query's own patient are left out. Every class has the same number of
    tiles at every centre; see `take_equally`. Features are (t, d); resamples are over patients.
    """
    kept = take_equally(classes, centres, config.seed)
    values = values[kept]
    classes, centres, sources = (each[kept] for each in (classes, centres, sources))
    unit = unit_rows(values, 1e-12)
    cosine = np.where(sources[:, None] == sources, -np.inf, unit @ unit.T)
    k = min(config.neighbours[0], len(values) - 1)
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    allowed = np.isfinite(np.take_along_axis(cosine, nearest, axis=1))
    same_class, same_centre = (names[nearest] == names[:, None] for names in (classes, centres))
    so = (same_class & ~same_centre & allowed).sum(axis=1)
    os = (~same_class & same_centre & allowed).sum(axis=1)
    units = choose_units(sources, len(values), config.bootstrap, config.seed)
    value, drawn = ratios(so[:, None].astype(float), (so + os)[:, None].astype(float), units)
    return estimate(float(value[0]), drawn[:, 0])


def take_equally(classes: Strings, centres: Strings, seed: int) -> NDArray[np.int64]:
    """Take the same number of tiles of every class at every centre, of the classes that all centres have.

    Returns their positions (m,), ascending.

    Raises
    ------
    ConfigError
        If there are not two centres and two such classes.
    """
    places = np.unique(centres)
    shared = [c for c in np.unique(classes) if len(np.unique(centres[classes == c])) == len(places)]
    if len(places) < 2 or len(shared) < 2:
        raise ConfigError(
            f"{len(places)} centres have {len(shared)} classes in common; two of each are needed",
            where="labels",
            remedy="label tiles of two classes at each centre",
        )
    cells = [np.flatnonzero((classes == c) & (centres == p)) for c in shared for p in places]
    fewest = min(map(len, cells))
    keys = hashes(seed, [str(i) for i in range(len(classes))])
    return np.sort(np.concatenate([cell[np.argsort(keys[cell])][:fewest] for cell in cells]))


def left_out(
    values: Floats, tiles: LabelledTiles, colours: Floats, config: RobustConfig, advance: Callable[..., None]
) -> LeftOutScores:
    """Score the classes if each centre in turn is held out.

    Raises
    ------
    ConfigError
        If there is one centre, if a patient is seen at two, or a class at one alone.
    """
    # Leaving a centre out leaves no other tile of its patients only if no patient is seen at two centres.
    centres = np.unique(tiles.centres, return_inverse=True)[1]
    check_whole(centres, Sources("groups", tiles.sources), dividing="centres")
    by_centre = Labels(tiles.given.classes, folds=tiles.centres, groups=tiles.sources)
    task = make_task(tiles, by_centre, tiles.ready_made, colours, config)
    (scores,) = fold_scores(values, [values], task, advance)
    return LeftOutScores(
        knn=_estimate(task, scores["knn"]),
        linear=_estimate(task, scores["linear"]),
        by_centre={
            centre: Accuracies(
                knn=_accuracy(task, scores["knn"], tiles.centres == centre),
                linear=_accuracy(task, scores["linear"], tiles.centres == centre),
            )
            for centre in np.unique(tiles.centres).tolist()
        },
    )


def name_centres(
    values: Floats, tiles: LabelledTiles, colours: Floats, config: RobustConfig, advance: Callable[..., None]
) -> CentreNaming:
    """Score how well a probe names the centre, on folds that keep patients together.

    Raises
    ------
    ConfigError
        If there is one centre, or one of too few patients for the folds.
    """
    as_classes = Labels(tiles.centres, groups=tiles.sources)
    task = make_task(tiles, as_classes, tiles.ready_made, colours, config)
    (scores,) = fold_scores(values, [values], task, advance)
    return CentreNaming(
        knn=_estimate(task, scores["knn"]),
        linear=_estimate(task, scores["linear"]),
        chance=1 / len(task.names),
    )


def _estimate(task: TileTask, scores: NDArray[np.float64]) -> Estimate:
    found = score_classes(task.classes[task.held_out], scores[task.held_out], task.units)
    return found.record().balanced_accuracy


def _accuracy(task: TileTask, scores: NDArray[np.float64], of: NDArray[np.bool_]) -> float:
    return float(balanced_accuracy_score(task.classes[of], scores[of].argmax(axis=1)))
