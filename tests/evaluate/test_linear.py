"""The linear probe against scikit-learn used by hand."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_info, threadpool_limits

from dirl.evaluate.probe.linear import COSTS, linear_scores


def data(seed=0, classes=3):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, classes, 150)
    centres = 1.2 * generator.normal(size=(classes, 6))
    return centres[labels] + generator.normal(size=(150, 6)), labels


def test_the_grid_is_that_of_the_protocol():
    assert len(COSTS) == 45 and COSTS[0] == 1e-6 and COSTS[-1] == 1e5
    np.testing.assert_allclose(np.diff(np.log10(COSTS)), 0.25)


def test_equals_scikit_learn_at_the_cost_that_does_best_on_the_part_set_aside():
    x, y = data()
    train, test, validation = x[:100], x[100:], np.arange(100) < 20
    scores, cost = linear_scores(train, y[:100], test, validation, 3)
    mean, std = train.mean(0), train.std(0)
    train, test = (train - mean) / std, (test - mean) / std
    recalls = []
    for value in COSTS:
        fitted = LogisticRegression(C=value, max_iter=1000).fit(train[20:], y[20:100])
        right = fitted.predict(train[:20]) == y[:20]
        recalls.append(np.mean([right[y[:20] == c].mean() for c in range(3)]))
    assert recalls[int(np.argmin(abs(COSTS - cost)))] == max(recalls)
    reference = LogisticRegression(C=cost, max_iter=1000).fit(train, y[:100])
    np.testing.assert_allclose(scores, reference.predict_proba(test), atol=1e-6)


def test_scale_and_shift_of_a_feature_change_nothing():
    x, y = data(1)
    validation = np.arange(100) < 20
    ours, cost = linear_scores(x[:100], y[:100], x[100:], validation, 3)
    other, same = linear_scores(1000 * x[:100] + 7, y[:100], 1000 * x[100:] + 7, validation, 3)
    assert cost == same
    np.testing.assert_allclose(ours, other, atol=1e-6)


def test_a_class_without_examples_and_a_constant_feature():
    x, y = data(2)
    x[:, 0] = 4
    scores, _ = linear_scores(x[:100], y[:100] + 1, x[100:], np.arange(100) < 20, 5)
    assert (scores[:, [0, 4]] == 0).all()
    np.testing.assert_allclose(scores.sum(1), 1)


def test_small_parts_are_fitted_by_one_thread(monkeypatch):
    seen: list[int] = []
    fit = LogisticRegression.fit

    def watched(self, *given):
        seen.extend(one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas")
        return fit(self, *given)

    monkeypatch.setattr(LogisticRegression, "fit", watched)
    rng = np.random.default_rng(0)
    with threadpool_limits(2, "blas"):
        linear_scores(
            rng.normal(size=(20, 3)), np.arange(20) % 2, rng.normal(size=(4, 3)), np.arange(20) < 6, 2
        )
        after = {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
    assert {*seen} == {1} and after == {2}
