"""Scores against scikit-learn, on everything and on resamples."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

from dirl.core.intervals import Estimate, Units
from dirl.evaluate.common.scores import score_classes
from tests.known import known, width


def reference(truth, scores, weights=None):
    guess, names = scores.argmax(1), np.unique(truth)
    ranks = [roc_auc_score(truth == c, scores[:, c], sample_weight=weights) for c in names]
    return [
        balanced_accuracy_score(truth, guess, sample_weight=weights),
        f1_score(truth, guess, average="macro", sample_weight=weights),
        np.mean(ranks),
    ]


@given(st.integers(0, 999), st.integers(2, 4), st.booleans())
@settings(max_examples=30)
def test_equal_to_scikit_learn(seed, classes, ties):
    generator = np.random.default_rng(seed)
    truth = np.r_[np.arange(classes), generator.integers(0, classes, 30)]
    scores = generator.random((len(truth), classes))
    scores = np.round(scores, 1) if ties else scores
    units = Units("tiles", np.arange(len(truth)), 0, 0)
    np.testing.assert_allclose(score_classes(truth, scores, units).values, reference(truth, scores))


def test_resamples_are_of_whole_units_and_equal_scikit_learn_with_weights():
    generator = np.random.default_rng(0)
    truth, scores = np.tile([0, 1, 2], 20), generator.random((60, 3))
    units = Units("patients", np.repeat(np.arange(10), 6), 40, seed=4)
    found = score_classes(truth, scores, units)
    times = np.random.default_rng(4).multinomial(10, np.full(10, 0.1), size=40)
    for counts, ours in zip(times, found.resampled, strict=True):
        np.testing.assert_allclose(ours, reference(truth, scores, counts[units.of_tile]))


def test_pairing_takes_out_what_both_share():
    generator = np.random.default_rng(1)
    truth = generator.integers(0, 2, 400)
    hard = generator.random(400) < 0.4
    right = np.eye(2)[truth]
    ours = np.where(hard[:, None], 1 - right, right)
    worse = np.where((hard | (np.arange(400) < 40))[:, None], 1 - right, right)
    units = Units("tiles", np.arange(400), 500, 0)
    one, other = score_classes(truth, ours, units), score_classes(truth, worse, units)
    difference = one.minus(other)
    assert difference.value == pytest.approx(one.values[0] - other.values[0])
    alone = one.estimates()["balanced_accuracy"]
    assert 0 < width(difference) < 0.7 * width(alone)
    assert known(alone.low) < known(alone.value) < known(alone.high)
    assert one.minus(one) == Estimate(0, 0, 0)


def test_a_resample_without_a_class_is_of_the_others():
    truth, scores = np.array([0, 0, 0, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9]])
    found = score_classes(truth, scores, Units("tiles", np.arange(4), 100, 0))
    assert np.isfinite(found.resampled[:, :2]).all()
    assert np.isnan(found.resampled[:, 2]).any()
    assert found.estimates()["macro_auroc"].low is not None
