"""Paired differences against SciPy's own test, and Holm's correction against its definition by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp, ttest_rel

from dirl.core.intervals import holm
from dirl.study.statistics import hierarchical, p_of_loss, paired
from dirl.study.summary import UnitSums

VALUES = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=3, max_size=12)


@given(VALUES)
def test_the_paired_t_test_is_scipys(values: list[tuple[float, float]]) -> None:
    a, b = ([round(pair[side], 3) for pair in values] for side in (0, 1))
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    assert found.difference == pytest.approx(sum(a) / len(a) - sum(b) / len(b), abs=1e-9)
    if found.p is None:
        assert found.sd == pytest.approx(0, abs=1e-9)
        return
    expected = ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, abs=1e-9)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


def test_only_seeds_that_both_have_count() -> None:
    found = paired({0: 1.0, 1: 2.0, 2: None, 4: 9.0}, {0: 0.5, 1: 1.0, 2: 7.0, 3: 8.0})
    assert found.seeds == 2 and found.difference == pytest.approx(0.75)


def test_fewer_than_three_seeds_have_a_difference_and_no_more() -> None:
    two, one, none = (
        paired({0: 1.0, 1: 2.0}, {0: 0.0, 1: 0.0}),
        paired({0: 1.0}, {0: 0.0}),
        paired({}, {0: 1}),
    )
    assert (two.difference, one.difference, none.difference) == (1.5, 1.0, None)
    assert two.sd is not None and one.sd is None
    assert all(found.p is None and found.low is None for found in (two, one, none))


def test_differences_that_are_all_alike_give_no_test() -> None:
    same = paired({s: 0.3 + s for s in range(4)}, {s: 0.2 + s for s in range(4)})
    assert same.difference == pytest.approx(0.1) and same.p is None


def test_holm_by_hand() -> None:
    # Of .01 .04 .03 .005: .005·4, .01·3, .03·2, max(.04·1, .06).
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def test_a_planned_test_without_p_still_counts() -> None:
    assert holm([0.01, None, 0.02]) == [pytest.approx(0.03), None, pytest.approx(0.04)]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_the_step_down_procedure_rejects(p: list[float]) -> None:
    rejected = set()
    for rank, place in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        if p[place] > 0.05 / (len(p) - rank):
            break
        rejected.add(place)
    adjusted = holm(p)
    for place, value in enumerate(adjusted):
        assert value is not None and p[place] <= value <= 1
        if abs(value - 0.05) > 1e-12:
            assert (value < 0.05) == (place in rejected)


def test_holm_of_a_published_example() -> None:
    # R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])


@given(VALUES, st.floats(0.01, 3))
def test_the_test_of_no_loss_is_scipys_one_sided_test(
    values: list[tuple[float, float]], margin: float
) -> None:
    a, b = ([round(pair[side], 3) for pair in values] for side in (0, 1))
    found = paired(dict(enumerate(a)), dict(enumerate(b)))
    p = p_of_loss(found, margin)
    if p is None or found.low is None:
        assert found.low is None
        return
    assert p == pytest.approx(ttest_1samp(np.subtract(a, b), -margin, alternative="greater").pvalue, abs=1e-9)
    if abs(found.low + margin) > 1e-9:
        assert (p < 0.025) == (found.low > -margin)


def runs_of(values: np.ndarray) -> list[UnitSums]:
    """Runs (s, u) of one value a unit."""
    return [{f"u{i}": [[value], [1.0]] for i, value in enumerate(run)} for run in values.tolist()]


def test_the_hierarchical_bootstrap_has_the_variance_of_the_design() -> None:
    # Differences are mean + seed + unit + rest. With S seeds and U units that all seeds share, the variance
    # of their mean is s²/S + u²/U + r²/(SU); the bootstrap adds 2 r²/(SU) at most (Owen 2007).
    generator = np.random.default_rng(0)
    s, u, r, seeds, units = 0.3, 0.8, 0.2, 40, 50
    both = generator.normal(0, s, (seeds, 1)) + generator.normal(0, u, units)
    both = both - both.mean() + 0.5 + generator.normal(0, r, (seeds, units))
    base = generator.normal(0, 5, (seeds, units))
    found = hierarchical(runs_of(base + both), runs_of(base))
    assert found is not None and found.low is not None and found.high is not None
    assert found.value == pytest.approx(both.mean())
    # Sums of squares of a two-way layout give the realised components.
    of_seeds, of_units = both.mean(1).var(), both.mean(0).var()
    expected = np.sqrt(of_seeds / seeds + of_units / units)
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(expected, rel=0.1)
    # Units drawn anew for each seed would make it much too narrow.
    assert expected > 2 * np.sqrt((of_seeds + of_units / units) / seeds)


def test_the_hierarchical_bootstrap_of_balanced_accuracy_is_that_of_its_definition() -> None:
    right = {"u": [[3.0, 0.0], [4.0, 0.0]], "v": [[1.0, 2.0], [1.0, 5.0]]}
    wrong = {"u": [[0.0, 0.0], [4.0, 0.0]], "v": [[0.0, 0.0], [1.0, 5.0]]}
    found = hierarchical([right] * 3, [wrong] * 3)
    assert found is not None and found.value == pytest.approx((4 / 5 + 2 / 5) / 2)
    # u alone has class 0 alone: 3/4. v alone: (1 + 2/5) / 2.
    assert (found.low, found.high) == pytest.approx((0.6, 0.75))


def test_the_hierarchical_bootstrap_needs_seeds_and_the_same_units() -> None:
    runs = runs_of(np.ones((3, 4)))
    assert hierarchical(runs[:2], runs[:2]) is None and hierarchical([], []) is None
    assert hierarchical(runs, [*runs[:2], {"other": [[1.0], [1.0]]}]) is None
