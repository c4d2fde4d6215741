"""Evaluators: classifiers of your own, which `dirl probe` scores on its folds beside the linear probe."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError
from dirl.core.plugins import resolve
from dirl.evaluate.common.task import TileTask

Floats = NDArray[np.floating]
Evaluator = Callable[[Floats, NDArray[np.integer], Floats, int], Floats]
"""Takes features (n, d) of the training part, their classes (n,) from 0, features (t, d) of the test part,
and the number of classes. Returns scores of the test part (t, classes); the highest is the answer."""

GROUP = "dirl.evaluators"
# What the probe calls its own classifiers, and the columns of its predictions.
TAKEN = re.compile(r"linear|knn\d+|tile_id|label|fold|group|unit")


def load_evaluators(specs: Sequence[str]) -> Mapping[str, Evaluator]:
    """Find evaluators by declared names, or as ``package.module:attribute``.

    Raises
    ------
    ConfigError
        If there is no such evaluator, it cannot be called, it is named twice, or its name is taken.
    """
    found: dict[str, Evaluator] = {}
    for spec in specs:
        where, name = f"evaluator {spec!r}", spec.replace(":", ".")
        if TAKEN.fullmatch(name):
            raise ConfigError("the probe itself uses this name", where=where, remedy="declare another name")
        if name in found:
            raise ConfigError("named twice", where=where, remedy="name it once")
        found[name] = resolve(GROUP, spec)
        if not callable(found[name]):
            raise ConfigError("cannot be called", where=where, remedy="name a function")
    return found


def by_evaluator(
    name: str, evaluator: Evaluator, values: Floats, task: TileTask, advance: Callable[..., None]
) -> NDArray[np.float64]:
    """Scores of the held-out tiles (n, classes), each fitted without the tile's fold.

    A `ConfigError` tells that the evaluator returned another shape, or values that are not finite.
    """
    classes = len(task.names)
    scores = np.zeros((len(values), classes))
    for fold in range(len(task.split)):
        test = task.split.folds == fold
        found = np.asarray(evaluator(values[~test], task.classes[~test], values[test], classes))
        wanted, where = (int(test.sum()), classes), f"evaluator {name}"
        if found.shape != wanted:
            reason = f"returned scores of shape {found.shape}, not {wanted}"
            raise ConfigError(reason, where=where, remedy="return a score for each tile and class")
        if not np.isfinite(found).all():
            raise ConfigError("returned scores that are not finite", where=where, remedy="correct it")
        scores[test] = found
        advance()
    return scores[task.held_out]
