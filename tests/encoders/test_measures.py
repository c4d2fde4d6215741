"""Every measure against hand-computed values, an independent numpy reference, and its invariants."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders import measures as m

Array = NDArray[np.float64]


def reference(p: Array) -> dict[str, float]:
    """The table of measures, written down again in numpy from its formulas, slowly."""
    n = len(p)
    positive = p[p > 0]
    h = -(positive * np.log(positive)).sum()
    falling = np.sort(p)[::-1]

    def fewest(mass: float) -> float:
        return next((i for i in range(1, n + 1) if falling[:i].sum() >= mass - 1e-6), n) / n

    return {
        "normalised_entropy": h / np.log(n),
        "effective_tokens": np.exp(h),
        "participation": 1 / (p**2).sum(),
        "gini": np.abs(p[:, None] - p[None]).mean() / (2 * p.mean()),
        "hoyer": (np.sqrt(n) - 1 / np.sqrt((p**2).sum())) / (np.sqrt(n) - 1),
        "top1": falling[: math.ceil(round(0.01 * n, 6))].sum(),
        "top10": falling[: math.ceil(round(0.1 * n, 6))].sum(),
        "tokens60": fewest(0.6),
        "tokens90": fewest(0.9),
    }


def measured(p: Tensor) -> dict[str, Tensor]:
    names = {"normalised_entropy": "entropy", "top1": "top1_mass", "top10": "top10_mass"}
    spread = m.spread_measures(p)
    return {name: spread[names.get(name, name)] for name in reference(np.full(2, 0.5))}


maps = (
    st.integers(2, 60)
    .flatmap(lambda n: arrays(np.float64, n, elements=st.one_of(st.just(0.0), st.floats(1e-4, 1.0))))
    .filter(lambda a: a.sum() > 0)
    .map(lambda a: a / a.sum())
)


@given(maps)
@settings(max_examples=150, deadline=None)
def test_equal_the_numpy_reference(p: Array) -> None:
    expected = reference(p)
    for name, value in measured(torch.from_numpy(p)).items():
        assert value.item() == pytest.approx(expected[name], abs=1e-6), name


@given(maps, st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_do_not_depend_on_the_order_of_tokens(p: Array, random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    there, here = measured(torch.from_numpy(p[order])), measured(torch.from_numpy(p))
    for name in here:
        assert here[name].item() == pytest.approx(there[name].item(), abs=1e-9), name


@given(maps)
@settings(max_examples=50, deadline=None)
def test_stay_in_their_range(p: Array) -> None:
    n = len(p)
    values = {name: value.item() for name, value in measured(torch.from_numpy(p)).items()}
    for name in ("effective_tokens", "participation"):
        assert 1 - 1e-6 <= values.pop(name) <= n + 1e-6
    assert all(-1e-6 <= value <= 1 + 1e-6 for value in values.values())


@given(maps, st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_mixing_with_uniform_spreads(p: Array, share: float) -> None:
    mixed = torch.from_numpy(share / len(p) + (1 - share) * p)
    before, after = measured(torch.from_numpy(p)), measured(mixed)
    assert after["normalised_entropy"] >= before["normalised_entropy"] - 1e-9
    assert after["gini"] <= before["gini"] + 1e-9
    assert after["hoyer"] <= before["hoyer"] + 1e-9


@pytest.mark.parametrize("n", [2, 64, 196])
def test_extremes(n: int) -> None:
    uniform, one = torch.full((n,), 1 / n), torch.eye(n)[0]
    u, o = measured(uniform), measured(one)
    assert u["normalised_entropy"].item() == pytest.approx(1)
    assert u["effective_tokens"].item() == pytest.approx(n, rel=1e-5)
    assert u["participation"].item() == pytest.approx(n, rel=1e-5)
    assert u["gini"].item() == pytest.approx(0, abs=1e-6)
    assert u["hoyer"].item() == pytest.approx(0, abs=1e-5) and u["hoyer"] >= 0
    assert u["tokens60"].item() == pytest.approx(math.ceil(0.6 * n) / n)
    assert o["normalised_entropy"] == 0 and o["effective_tokens"] == 1 and o["participation"] == 1
    assert o["gini"].item() == pytest.approx(1 - 1 / n)
    assert o["hoyer"].item() == pytest.approx(1) and o["top1"] == 1
    assert o["tokens90"].item() == pytest.approx(1 / n)


def test_by_hand() -> None:
    p = torch.tensor([0.5, 0.25, 0.25, 0.0], dtype=torch.float64)
    values = measured(p)
    assert values["normalised_entropy"].item() == pytest.approx(0.75)  # 1.5 bits of 2
    assert values["effective_tokens"].item() == pytest.approx(2**1.5)
    assert values["participation"].item() == pytest.approx(1 / 0.375)
    assert values["gini"].item() == pytest.approx(0.375)  # (4·.25 + 2·.5 + ...)/16 over 2/4
    assert values["tokens60"].item() == 0.5
    assert values["tokens90"].item() == 0.75


@given(maps)
@settings(max_examples=30, deadline=None)
def test_by_other_names(p: Array) -> None:
    together = m.spread_measures(torch.from_numpy(p))
    assert torch.equal(together["entropy"], m.normalised_entropy(torch.from_numpy(p)))
    torch.testing.assert_close(together["effective_share"] * len(p), together["effective_tokens"])
    most = np.sort(p)[-math.ceil(round(0.05 * len(p), 6)) :].sum()
    assert together["top5_mass"].item() == pytest.approx(most)


def test_outliers() -> None:
    norms = torch.ones(2, 100)
    norms[0, :3] = torch.tensor([4.0, 4.1, 9.0])  # exactly four times the median is none
    torch.testing.assert_close(m.outliers(norms), torch.tensor([0.02, 0.0]))


def test_renormalise() -> None:
    mass, p = m.renormalise(torch.tensor([[0.1, 0.3], [0.0, 0.0]]))
    torch.testing.assert_close(mass, torch.tensor([0.4, 0.0]))
    torch.testing.assert_close(p[0], torch.tensor([0.25, 0.75]))
    assert p[1].isnan().all() and m.spread_measures(p)["tokens60"][1].isnan()


def test_attention_of_regions() -> None:
    p = torch.tensor([[[0.4, 0.4, 0.1, 0.1]], [[0.25] * 4]])  # two tiles, one head
    coverage = torch.zeros(2, 2, 4)
    coverage[0, 0, :2] = 0.5  # a quarter of tile 0
    coverage[0, 1, 2:] = 1.0
    coverage[1, 1] = 1.0
    attention = m.region_attention(p, coverage)
    torch.testing.assert_close(attention[:, 0], torch.tensor([[0.4, 0.2], [0.0, 1.0]]))


def test_component_coverage() -> None:
    weights = torch.tensor([[1.0, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 1.0]])
    relative = m.relative_attention(torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25] * 4]), weights)
    torch.testing.assert_close(relative, torch.tensor([[2.8, 1.6, 0.4], [1.0, 1.0, 1.0]]))
    for threshold, expected in ((0.25, [1, 1]), (0.5, [2 / 3, 1]), (1.0, [2 / 3, 1]), (2.0, [1 / 3, 0])):
        torch.testing.assert_close(m.component_coverage(relative, threshold), torch.tensor(expected).float())
    assert m.component_coverage(relative[:, :0], 0.5).isnan().all()


def test_head_diversity() -> None:
    generator = np.random.default_rng(0)
    p = generator.dirichlet(np.full(9, 0.3), size=(2, 5))

    expected = [(heads * np.log(heads / heads.mean(0))).sum(1).mean() for heads in p]
    np.testing.assert_allclose(m.head_diversity(torch.from_numpy(p)), expected, rtol=1e-9)
    assert m.head_diversity(torch.eye(4)).item() == pytest.approx(math.log(4))
    assert m.head_diversity(torch.full((3, 4), 0.25)).item() == 0
    assert m.head_diversity(torch.full((1, 4), 0.25)).isnan()


def test_entropy_within_the_chosen_tokens() -> None:
    p = np.random.default_rng(0).dirichlet(np.full(6, 0.5), size=(3, 2))
    chosen = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0]], bool)
    found = m.entropy_within(torch.from_numpy(p), torch.from_numpy(chosen)).numpy()
    for tile in range(2):
        for head in range(2):
            q = p[tile, head, chosen[tile]] / p[tile, head, chosen[tile]].sum()
            expected = -(q * np.log(q)).sum() / np.log(len(q))
            assert found[tile, head] == pytest.approx(expected, rel=1e-6)
    assert np.isnan(found[2]).all()


def test_effective_rank_counts_directions() -> None:
    corners = torch.cat([torch.eye(4), -torch.eye(4)])
    assert m.effective_rank(corners) == pytest.approx(4)
    assert m.effective_rank(torch.cat([corners[:1], corners[4:5]])) == pytest.approx(1)
    x = np.random.default_rng(0).normal(size=(30, 5))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(np.cov(unit.T))
    share = values / values.sum()
    expected = np.exp(-(share * np.log(share)).sum())
    assert m.effective_rank(torch.from_numpy(x)) == pytest.approx(expected)
