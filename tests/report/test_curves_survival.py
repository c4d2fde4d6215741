"""Curves of reports against independent references."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lifelines import KaplanMeierFitter
from sklearn.metrics import roc_auc_score

from dirl.core.intervals import Units
from dirl.report.curves import GRID, band, curves_figure, precision, roc
from dirl.report.survival import higher_risk, kaplan_meier, survival_figure


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), count=st.integers(3, 40))
def test_the_estimator_of_kaplan_and_meier_is_that_of_lifelines(seed: int, count: int) -> None:
    generator = np.random.default_rng(seed)
    times = generator.integers(1, 12, count).astype(np.float64)
    happened = generator.random(count) > 0.4
    at, free = kaplan_meier(times, happened)
    reference = KaplanMeierFitter().fit(times, happened)
    np.testing.assert_allclose(free, np.atleast_1d(reference.predict(at)), atol=1e-12)


def test_the_median_is_that_of_each_fold() -> None:
    risks, folds = np.array([1.0, 2.0, 30.0, 40.0]), np.array([0, 0, 1, 1])
    np.testing.assert_array_equal(higher_risk(risks, folds), [False, True, False, True])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99))
def test_the_area_under_the_curve_is_the_auroc(seed: int) -> None:
    generator = np.random.default_rng(seed)
    truth = generator.random(400) > 0.5
    scores = generator.normal(size=400) + truth
    assert np.trapezoid(roc(truth, scores), GRID) == pytest.approx(roc_auc_score(truth, scores), abs=0.01)
    all_found = scores >= scores[truth].min()
    assert precision(truth, scores)[-1] == pytest.approx(truth[all_found].mean())


def test_bands_hold_the_curve_and_are_wider_over_fewer_units() -> None:
    generator = np.random.default_rng(0)
    truth = np.tile([True, False], 60)
    scores = generator.normal(size=120) + truth
    widths = []
    for units in (120, 6):
        of = Units("slides", np.arange(120) % units, 100, 0)
        value, low, high = band(truth, scores, of, "roc")
        assert (low <= value + 0.05).all() and (high >= value - 0.05).all()
        widths.append(float((high - low).mean()))
    assert all(width > 0 for width in widths)


def test_figures_are_drawn_where_a_class_or_a_half_is_empty() -> None:
    units = Units("slides", np.arange(4), 20, 0)
    drawn = curves_figure(np.array([0, 0, 2, 2]), np.eye(4)[:, :3], ["a", "b", "c"], units)
    assert [line.get_label() for line in drawn.axes[0].lines][:2] == ["a", "c"]
    one = survival_figure(np.array([1.0, 2.0]), np.array([True, False]), np.array([True, True]))
    assert len(one.axes[0].get_legend_handles_labels()[1]) == 1
