"""Blending weights sum to one, and a pyramid's level is the mean of the one before."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.maps.blend import blend, halve, window
from dirl.maps.grid import MapGrid, MapTiles, starts


@st.composite
def layouts(draw):
    side = draw(st.integers(1, 7))
    grid = MapGrid(
        (side + draw(st.integers(0, 12)), side + draw(st.integers(0, 12))),
        16.0,
        8.0,
        16 * side,
        side,
        draw(st.integers(1, side)),
    )
    rows, columns = (starts(extent, side, grid.stride_tokens) for extent in grid.shape)
    places = [(i, j) for i in rows for j in columns]
    chosen = draw(st.lists(st.sampled_from(places), min_size=1, unique=True))
    i, j = np.array(sorted(chosen)).T
    tissue = np.random.default_rng(draw(st.integers(0, 99))).random(grid.shape) < 0.7
    return grid, MapTiles(i, j, np.ones(len(i))), tissue


@settings(deadline=None, max_examples=60)
@given(layout=layouts(), seed=st.integers(0, 99))
def test_blending_weights_sum_to_one(layout, seed, tmp_path_factory):
    grid, tiles, tissue = layout
    path = tmp_path_factory.mktemp("blend") / "map.npy"
    shape = (len(tiles), 2, grid.tile_tokens, grid.tile_tokens)
    covered = np.zeros(grid.shape, bool)
    for i, j in zip(tiles.rows, tiles.columns, strict=True):
        covered[i : i + grid.tile_tokens, j : j + grid.tile_tokens] = True

    # A function of the place alone comes out as it is, whatever tiles overlap where.
    field = np.random.default_rng(seed).random(grid.shape).astype(np.float32)
    values = np.ones(shape, np.float32)
    for tile, (i, j) in enumerate(zip(tiles.rows, tiles.columns, strict=True)):
        values[tile, 1] = field[i : i + grid.tile_tokens, j : j + grid.tile_tokens]
    made = blend(path, values, np.ones((len(tiles), 2)), tiles, grid, tissue)
    there = covered & tissue
    np.testing.assert_allclose(made[0][there], 1, rtol=1e-5)
    np.testing.assert_allclose(made[1][there], field[there], rtol=1e-5)
    assert np.isnan(made[:, ~there]).all()

    # Tiles of their own weight: between the smallest and the largest of them.
    weights = np.random.default_rng(seed).random((len(tiles), 2)) + 0.1
    made = blend(path, np.ones(shape, np.float32), weights, tiles, grid, tissue)
    assert (made[0][there] >= weights[:, 0].min() * 0.999).all()
    assert (made[0][there] <= weights[:, 0].max() * 1.001).all()


@pytest.mark.parametrize("tokens", [2, 14, 16, 28])
def test_windows_half_a_tile_apart_sum_to_one_by_themselves(tokens):
    total = np.zeros((3 * tokens, 3 * tokens))
    for i in range(0, 2 * tokens + 1, tokens // 2):
        for j in range(0, 2 * tokens + 1, tokens // 2):
            total[i : i + tokens, j : j + tokens] += window(tokens)
    inner = np.s_[tokens // 2 : -(tokens // 2)]
    np.testing.assert_allclose(total[inner, inner], 1, rtol=1e-6)
    assert window(tokens).min() > 0


@settings(deadline=None, max_examples=30)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99))
def test_halving_is_the_mean_of_what_is_there(rows, columns, seed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    level = rng.random((2, rows, columns)).astype(np.float32)
    level[:, rng.random((rows, columns)) < 0.4] = np.nan
    shape = (-(-rows // 2), -(-columns // 2))
    half = halve(tmp_path_factory.mktemp("halve") / "half.npy", level, shape)
    for i in range(shape[0]):
        for j in range(shape[1]):
            four = level[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
            four = four[np.isfinite(four)]
            expected = four.mean() if four.size else np.nan
            np.testing.assert_allclose(half[0, i, j], expected, rtol=1e-6)
