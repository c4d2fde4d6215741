import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from dirl.core.intervals import Estimate, Units
from dirl.evaluate.probe import retrieval as r


def test_ranks_are_those_of_scikit_learn_and_of_counting() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(60, 5))
    classes, folds = generator.integers(0, 3, 60), generator.integers(-1, 3, 60)
    found = r.retrieval(values, classes, folds, 0)
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    held = np.flatnonzero(folds >= 0)
    assert len(found) == len(held)
    for row, query in zip(found, held, strict=True):
        keys = np.flatnonzero(folds != folds[query])
        scores, same = unit[keys] @ unit[query], classes[keys] == classes[query]
        assert row[-1] == pytest.approx(average_precision_score(same, scores))
        nearest = same[np.argsort(-scores)]
        assert row[:3].tolist() == [float(nearest[:k].any()) for k in (1, 5, 10)]


def test_at_most_so_many_queries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(r, "MOST_QUERIES", 10)
    values, folds = np.random.default_rng(0).normal(size=(40, 4)), np.arange(40) % 2
    found = r.retrieval(values, folds * 0, folds, 0)
    assert np.isfinite(found[:, 0]).sum() == 10
    units = Units("tiles", np.arange(40), 50, 0)
    assert r.retrieval_estimates(found, units)["recall@1"] == Estimate(1.0, 1.0, 1.0)
