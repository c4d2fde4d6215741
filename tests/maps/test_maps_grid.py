"""Tiles lie on the tokens' lattice, on the map, and cover all tissue."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dirl.core.errors import SlideError
from dirl.maps.grid import MapGrid, choose_tiles, make_grid, starts, tissue_tokens
from dirl.slides.base import SlideInfo
from dirl.slides.tissue import TissueMask


def info(width, height, mpp):
    return SlideInfo("s", Path("s.tif"), None, (width, height), mpp, (1.0,))


@given(side=st.integers(1, 20), more=st.integers(0, 60), stride=st.integers(1, 20))
def test_starts_cover_a_line_and_stay_on_it(side, more, stride):
    extent, stride = side + more, min(stride, side)
    covered = np.zeros(extent, int)
    for start in starts(extent, side, stride):
        assert 0 <= start <= extent - side
        covered[start : start + side] += 1
    assert covered.min() >= 1


@settings(deadline=None)
@given(
    tissue=arrays(bool, st.tuples(st.integers(6, 25), st.integers(6, 25))),
    side=st.integers(1, 6),
    overlap=st.floats(0, 0.95),
)
def test_every_tissue_token_lies_in_a_chosen_tile(tissue, side, overlap):
    tissue[0, 0] = True
    grid = MapGrid(tissue.shape, 16.0, 8.0, 16 * side, side, max(1, round(side * (1 - overlap))))
    tiles = choose_tiles(grid, tissue, 0.0, "slide")
    covered = np.zeros(tissue.shape, bool)
    for i, j, fraction in zip(tiles.rows, tiles.columns, tiles.tissue_fraction, strict=True):
        here = tissue[i : i + side, j : j + side]
        assert here.shape == (side, side) and here.mean() == pytest.approx(fraction) and fraction > 0
        covered[i : i + side, j : j + side] = True
    assert not (tissue & ~covered).any()


def test_the_map_covers_whole_tokens_from_the_corner():
    grid = make_grid(info(2220, 2967, 0.499), 224, 0.5, 0.5, 14)
    assert grid.shape == (185, 138) and grid.stride_tokens == 7
    assert grid.token_um == 8.0 and grid.token_level0_px == pytest.approx(8 / 0.499)
    assert grid.levels == [(185, 138), (93, 69), (47, 35)]
    assert make_grid(info(224, 224, 0.5), 224, 0.5, 0.5, 14).shape == (14, 14)


def test_a_map_covers_what_was_scanned():
    scanned = replace(info(5000, 4000, 0.5), scanned_box=(1200, 800, 2220, 1967))
    grid = make_grid(scanned, 224, 0.5, 0.5, 14)
    assert grid.shape == make_grid(info(2220, 1967, 0.5), 224, 0.5, 0.5, 14).shape
    assert grid.origin_px == (1200, 800) and grid.origin_um == (600, 400)
    mask = np.zeros((250, 313), bool)
    mask[50:60, 75:80] = True  # of 8 µm: it begins at the corner of the scan
    tokens = tissue_tokens(grid, TissueMask(mask, 8.0, (255.0, 255.0, 255.0)))
    assert np.array_equal(np.argwhere(tokens).min(0), (0, 0)) and tokens.sum() == 50
    tiles = choose_tiles(grid, tokens, 0.0, "slide")
    assert tiles.corners(grid)[0].tolist() == [1200, 800]


def test_too_small_a_slide_and_one_without_tissue_are_refused():
    with pytest.raises(SlideError, match="smaller than one tile"):
        make_grid(info(200, 3000, 0.5), 224, 0.5, 0.5, 14)
    grid = MapGrid((20, 20), 16.0, 8.0, 160, 10, 5)
    with pytest.raises(SlideError, match="no tissue found: the fullest of 9 tiles holds 0%"):
        choose_tiles(grid, np.zeros((20, 20), bool), 0.0, "slide")
    sparse = np.zeros((20, 20), bool)
    sparse[0, :10] = True
    with pytest.raises(SlideError, match=r"holds 10% — lower --min-tissue \(now 0.5\)"):
        choose_tiles(grid, sparse, 0.5, "slide")
