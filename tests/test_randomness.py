"""Counted randomness: what it depends on, and that it is fair."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dirl.core.randomness import derangement, hashes, permute, uniforms

seeds = st.integers(0, 2**40)


@given(seeds, st.lists(st.integers(0, 2**50), min_size=1, max_size=8))
def test_uniforms_depend_on_seed_and_counter_alone(seed, counters):
    together = uniforms(seed, counters, 5)
    assert ((together >= 0) & (together < 1)).all()
    for row, counter in zip(together, counters, strict=True):
        assert (row == uniforms(seed, [counter], 5)[0]).all()


def test_uniforms_are_uniform_and_uncorrelated():
    draws = uniforms(3, np.arange(20_000), 4)
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.01
    assert np.abs(draws.var(axis=0) - 1 / 12).max() < 0.002
    assert np.abs(np.corrcoef(draws.T) - np.eye(4)).max() < 0.03
    assert abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.03
    assert abs(np.corrcoef(draws[:, 0], uniforms(4, np.arange(20_000), 1)[:, 0])[0, 1]) < 0.03


@given(seeds, st.integers(1, 3000))
def test_permute_is_a_permutation(seed, size):
    assert sorted(permute(seed, np.arange(size), size)) == list(range(size))


def test_permutations_differ_between_seeds_and_move_most():
    first, second = permute(1, np.arange(5000), 5000), permute(2, np.arange(5000), 5000)
    assert (first == second).mean() < 0.01
    assert (first == np.arange(5000)).mean() < 0.01


@given(
    seeds,
    st.lists(st.tuples(st.text(max_size=6), st.sampled_from("abc")), unique_by=lambda i: i[0], max_size=30),
)
def test_derangement_stays_in_the_group_and_moves_everything(seed, items):
    names, groups = [n for n, _ in items], [g for _, g in items]
    given_to = derangement(seed, names, groups)
    assert sorted(given_to) == list(range(len(items)))
    for i, j in enumerate(given_to):
        assert groups[i] == groups[j]
        assert i != j or groups.count(groups[i]) == 1


def test_derangement_does_not_depend_on_the_order_of_items():
    names = [f"tile{i}" for i in range(50)]
    partner = dict(zip(names, (names[j] for j in derangement(7, names, ["s"] * 50)), strict=True))
    backwards = names[::-1]
    again = {n: backwards[j] for n, j in zip(backwards, derangement(7, backwards, ["s"] * 50), strict=True)}
    assert partner == again


def test_hashes_are_stable():
    assert hashes(0, ["a", "b"]).tolist() == hashes(0, ["a", "b"]).tolist()
    assert hashes(0, ["a"])[0] != hashes(1, ["a"])[0]
