import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dirl.evaluate.probe.fewshot import few_shot
from tests.known import known


def _made(count: int = 120, kinds: int = 3, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    classes = np.arange(count) % kinds
    values = generator.normal(size=(count, 8)) + apart * np.eye(8)[classes]
    return values.astype(np.float32), classes, (np.arange(count) // kinds) % 4


def test_it_is_the_nearest_mean_of_the_drawn_tiles() -> None:
    values, classes, folds = _made()
    found = few_shot(values, classes, folds, seed=3, draws=1)
    train, test = np.flatnonzero(folds != 0), folds == 0
    shifted = values.astype(np.float64) - values[train].mean(axis=0)
    unit = shifted / np.linalg.norm(shifted, axis=1, keepdims=True)
    generator = np.random.default_rng(3)
    order = [generator.permutation(train[classes[train] == c]) for c in range(3)]
    for shot, value in zip(found.shots, found.values[:, 0], strict=True):
        guess = cdist(unit[test], [unit[one[:shot]].mean(axis=0) for one in order]).argmin(axis=1)
        recalls = [(guess[classes[test] == c] == c).mean() for c in range(3)]
        assert value == pytest.approx(np.mean(recalls))


def test_more_labels_help_and_classes_that_are_far_apart_need_one() -> None:
    values, classes, folds = _made(count=400, apart=1.5)
    means = [known(one.value) for one in few_shot(values, classes, folds, 0).estimates().values()]
    assert len(means) == 6 and means[0] < means[2] < means[5]
    values, classes, folds = _made(apart=100)
    assert few_shot(values, classes, folds, 0).values.min() == 1


def test_shots_that_a_class_cannot_give_are_left_out() -> None:
    values, classes, folds = _made(count=24)
    assert few_shot(values, classes, folds, 0).shots == (1, 2, 4)  # six of a class outside each fold
    assert few_shot(values[:4], np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 0).estimates().keys() == {"1"}
