"""The partial likelihood and concordance, by hand and against lifelines."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.core.intervals import Estimate, Units
from dirl.evaluate.common.scores import concordance
from dirl.evaluate.mil.train import cox_loss
from tests.known import known


def cohort(seed, count=40, ties=False):
    generator = np.random.default_rng(seed)
    times = generator.exponential(10, count)
    times = np.ceil(times / 4) if ties else times
    return generator.normal(size=count), times, generator.random(count) < 0.7


def index(risks, times, events, folds=None):
    units = Units("slides", np.arange(len(risks)), 0, 0)
    folds = np.zeros(len(risks), np.int64) if folds is None else folds
    return concordance(risks, times, events, folds, units).first[0]


def test_the_likelihood_by_hand():
    # The first event has all four at risk, the two at time 2 have three, as Breslow has it.
    risks, times = np.array([0.5, -1.0, 2.0, 0.0]), np.array([1.0, 2, 2, 3])
    events = np.array([True, True, True, False])
    e = np.exp(risks)
    expected = -(0.5 - np.log(e.sum()) - 1.0 + 2.0 - 2 * np.log(e[1:].sum())) / 3
    found = cox_loss(*map(torch.from_numpy, (risks, times, events)))
    assert found.item() == pytest.approx(expected)


def test_without_an_event_nothing_is_learnt():
    risks = torch.zeros(3, requires_grad=True)
    loss = cox_loss(risks, torch.arange(3.0), torch.zeros(3, dtype=torch.bool))
    loss.backward()
    assert loss == 0 and (known(risks.grad) == 0).all()


def test_the_likelihood_against_lifelines():
    lifelines = pytest.importorskip("lifelines", reason="lifelines is not installed")
    pandas = pytest.importorskip("pandas")
    _, times, events = cohort(1, 60)
    x = np.random.default_rng(5).normal(size=(60, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = pandas.DataFrame({"t": times, "e": events, "a": x[:, 0], "b": x[:, 1]})
        fitter = lifelines.CoxPHFitter().fit(frame, "t", "e")
    risks = torch.from_numpy(x @ fitter.params_.to_numpy()).requires_grad_()
    loss = cox_loss(risks, torch.from_numpy(times), torch.from_numpy(events))
    assert -loss.item() * events.sum() == pytest.approx(fitter.log_likelihood_)
    # Its maximum is ours: the gradient by the coefficients is 0.
    loss.backward()
    assert np.abs(known(risks.grad).numpy() @ x).max() < 1e-5


def test_concordance_by_hand():
    # Pairs that can be compared: (a, b), (a, c), (a, d), (c, d); b was last seen at 2, so (b, ·) cannot be.
    times, events = np.array([1.0, 2, 3, 4]), np.array([True, False, True, True])
    assert index(np.array([4.0, 3, 2, 1]), times, events) == 1
    assert index(np.array([1.0, 2, 3, 4]), times, events) == 0
    assert index(np.array([2.0, 9, 2, 1]), times, events) == (0 + 0.5 + 1 + 1) / 4
    # Of two at one time, the event is earlier than the last look; two events cannot be compared.
    assert index(np.array([1.0, 0]), np.array([5.0, 5]), np.array([True, False])) == 1
    assert np.isnan(index(np.array([1.0, 0]), np.array([5.0, 5]), np.array([True, True])))


@given(seed=st.integers(0, 1000), ties=st.booleans())
@settings(max_examples=20, deadline=None)
def test_concordance_against_lifelines(seed, ties):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        utils = pytest.importorskip("lifelines.utils", reason="lifelines is not installed")
    risks, times, events = cohort(seed, ties=ties)
    risks = np.round(risks, 1) if ties else risks
    assert index(risks, times, events) == pytest.approx(utils.concordance_index(times, -risks, events))


def test_pairs_are_formed_within_folds():
    risks, times, events = cohort(3)
    folds = np.arange(40) % 2
    shifted = np.where(folds == 0, risks, risks + 100)
    assert index(shifted, times, events, folds) == index(risks, times, events, folds)
    assert index(shifted, times, events) != index(risks, times, events)


def test_resamples_are_of_units_and_paired():
    risks, times, events = cohort(4)
    units = Units("patients", np.arange(40) // 2, 200, 0)
    folds = np.zeros(40, np.int64)
    one = concordance(risks, times, events, folds, units)
    other = concordance(2 * risks + 1, times, events, folds, units)
    assert one.minus(other) == Estimate(0, 0, 0)
    found = one.estimates()["concordance"]
    assert known(found.low) < known(found.value) < known(found.high) and one.first[1].shape == (200,)
    # A unit drawn twice weighs like two copies of its slides.
    times_drawn = np.random.default_rng(0).multinomial(20, np.full(20, 1 / 20), size=200)
    copies = np.repeat(np.arange(40), times_drawn[0][units.of_tile])
    assert one.first[1][0] == pytest.approx(index(risks[copies], times[copies], events[copies]))
