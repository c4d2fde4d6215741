"""Paired differences against SciPy's own test, and Holm's correction against its definition by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from dirl.core.intervals import holm
from dirl.study.summarise import paired

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
