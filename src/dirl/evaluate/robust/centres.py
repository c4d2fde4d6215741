"""Hospitals: whether features follow the tissue or the place where the slide was made."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score

from dirl.config import RobustConfig
from dirl.core.errors import ConfigError
from dirl.core.intervals import choose_units, interval, ratios
from dirl.core.randomness import hashes
from dirl.evaluate.common.labelled_tiles import DrawnTiles
from dirl.evaluate.common.labels import Labels
from dirl.evaluate.common.scores import Interval, score
from dirl.evaluate.common.task import Task, make_task
from dirl.evaluate.robust.score import held_out_scores

Floats = NDArray[np.floating]
Strings = NDArray[np.str_]


def across_centres(
    values: Floats,
    tiles: DrawnTiles,
    colours: Floats,
    config: RobustConfig,
    advance: Callable[..., None],
) -> dict[str, Any]:
    """Measure three ways what the centre does to features.

    Parameters
    ----------
    values : ndarray of shape (t, d)
        Features of undamaged tiles.
    tiles
        Who they are.
    colours : ndarray of shape (t, k)
        What stain is clustered by where nothing is known of the tiles' sources.
    config
        Neighbours, resamples, seed.
    advance
        Called as work goes on.

    Returns
    -------
    dict
        ``robustness_index``; ``left_out``: scores where each centre is held out in turn; ``named``: how well
        a probe names the centre. What these tiles do not allow for is None, with the reason in ``notes``.
    """
    # Folds and groups are given here, by centre and patient, whatever the classes are scored on.
    by_place = config.model_copy(update={"groups": "given"})
    measures: dict[str, Callable[[], Any]] = {
        "robustness_index": lambda: robustness_index(
            values, tiles.given.classes, tiles.centres, tiles.sources, config
        ),
        "left_out": lambda: left_out(values, tiles, colours, by_place, advance),
        "named": lambda: named(values, tiles, colours, by_place, advance),
    }
    found: dict[str, Any] = {"centres": np.unique(tiles.centres).tolist(), "notes": []}
    for name, measure in measures.items():
        try:
            found[name] = measure()
        except ConfigError as error:
            found[name] = None
            found["notes"].append(f"No {name.replace('_', ' ')}: {error.reason}.")
    return found


def robustness_index(
    values: Floats, classes: Strings, centres: Strings, sources: Strings, config: RobustConfig
) -> Interval:
    """Share of class over centre among the neighbours that tell the two apart (de Jong et al., 2501.18055).

    Of the nearest neighbours by cosine, SO have the query's class and another centre, OS another class and
    the query's centre: the index is SO / (SO + OS), 1 where features follow the tissue, 0 where they follow
    the place. Neighbours of the query's own patient are left out, and as many tiles are taken of every class
    at every centre, of the classes that all centres have.

    Parameters
    ----------
    values : ndarray of shape (t, d)
    classes, centres, sources : ndarray of shape (t,), str
    config
        Neighbours; seed of which tiles are taken; resamples, over patients.

    Raises
    ------
    ConfigError
        If there are not two centres that have two classes in common.
    """
    kept = balanced(classes, centres, config.seed)
    values = values[kept]
    classes, centres, sources = (each[kept] for each in (classes, centres, sources))
    unit = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    cosine = np.where(sources[:, None] == sources, -np.inf, unit @ unit.T)
    k = min(config.neighbours[0], len(values) - 1)
    nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
    allowed = np.isfinite(np.take_along_axis(cosine, nearest, axis=1))
    same_class, same_centre = (names[nearest] == names[:, None] for names in (classes, centres))
    so = (same_class & ~same_centre & allowed).sum(axis=1)
    os = (~same_class & same_centre & allowed).sum(axis=1)
    units = choose_units(sources, len(values), config.bootstrap, config.seed)
    value, drawn = ratios(so[:, None].astype(float), (so + os)[:, None].astype(float), units)
    return interval(float(value[0]), drawn[:, 0])


def balanced(classes: Strings, centres: Strings, seed: int) -> NDArray[np.int64]:
    """Take equally many tiles of every class at every centre, of the classes that all centres have.

    Returns
    -------
    ndarray of shape (m,)
        Positions, ascending.

    Raises
    ------
    ConfigError
        If there are not two centres and two such classes.
    """
    places = np.unique(centres)
    shared = [c for c in np.unique(classes) if len(np.unique(centres[classes == c])) == len(places)]
    if len(places) < 2 or len(shared) < 2:
        raise ConfigError(
            f"{len(places)} centres have {len(shared)} classes in common, and it takes two of each",
            where="labels",
            remedy="label tiles of two classes at each centre",
        )
    cells = [np.flatnonzero((classes == c) & (centres == p)) for c in shared for p in places]
    fewest = min(map(len, cells))
    keys = hashes(seed, [str(i) for i in range(len(classes))])
    return np.sort(np.concatenate([cell[np.argsort(keys[cell])][:fewest] for cell in cells]))


def left_out(
    values: Floats, tiles: DrawnTiles, colours: Floats, config: RobustConfig, advance: Callable[..., None]
) -> dict[str, Any]:
    """Score the classes where each centre in turn is held out.

    Returns
    -------
    dict
        ``knn``, ``linear``: balanced accuracy over all centres with its interval; ``by_centre``: of each.

    Raises
    ------
    ConfigError
        If there is one centre, if a patient is seen at two, or a class at one alone.
    """
    # Only where a centre keeps its patients to itself does leaving it out leave nothing of them behind.
    by_centre = Labels(tiles.given.classes, folds=tiles.centres, groups=tiles.sources)
    task = make_task(tiles, by_centre, tiles.ready_made, colours, config)
    scores, scored = _scores(values, task, advance)
    return scored | {
        "by_centre": {
            centre: {how: _accuracy(task, each, tiles.centres == centre) for how, each in scores.items()}
            for centre in np.unique(tiles.centres).tolist()
        }
    }


def named(
    values: Floats, tiles: DrawnTiles, colours: Floats, config: RobustConfig, advance: Callable[..., None]
) -> dict[str, Any]:
    """Score how well the centre is told from features, on folds that keep patients together.

    Returns
    -------
    dict
        ``knn``, ``linear``: balanced accuracy with its interval; ``chance``.

    Raises
    ------
    ConfigError
        If there is one centre, or one of too few patients for the folds.
    """
    as_classes = Labels(tiles.centres, groups=tiles.sources)
    task = make_task(tiles, as_classes, tiles.ready_made, colours, config)
    return _scores(values, task, advance)[1] | {"chance": 1 / len(task.names)}


def _scores(
    values: Floats, task: Task, advance: Callable[..., None]
) -> tuple[dict[str, NDArray[np.float64]], dict[str, Any]]:
    (scores,) = held_out_scores(values, [values], task, advance)
    truth = task.classes[task.held_out]
    scored = {
        how: score(truth, each[task.held_out], task.units).intervals()["balanced_accuracy"]
        for how, each in scores.items()
    }
    return scores, scored


def _accuracy(task: Task, scores: NDArray[np.float64], of: NDArray[np.bool_]) -> float:
    return float(balanced_accuracy_score(task.classes[of], scores[of].argmax(axis=1)))
