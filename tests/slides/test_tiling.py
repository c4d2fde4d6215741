"""Where tiles lie."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dirl.core.errors import SlideError
from dirl.slides.base import SlideInfo
from dirl.slides.tiling import Tile, TileSpec, around_the_middle, plan_tiles
from dirl.slides.tissue import TissueMask


class Blank:
    def __init__(self, size_px, mpp):
        self.info = SlideInfo("a.b", Path("a.b.svs"), None, size_px, mpp, (1.0,))

    def read_level(self, level, x, y, w, h):
        raise AssertionError("tiles are placed without a look at the pixels")

    def close(self):
        pass


def mask_of(slide, fill=True):
    shape = [int(np.ceil(side * slide.info.mpp / 8)) for side in reversed(slide.info.size_px)]
    return TissueMask(np.full(shape, fill), 8.0, (255, 255, 255))


@given(
    width=st.integers(300, 3000),
    height=st.integers(300, 3000),
    mpp=st.floats(0.2, 0.5),
    stride=st.integers(40, 400),
)
@settings(max_examples=60, deadline=None)
def test_tiles_lie_on_the_slide_and_have_their_stride(width, height, mpp, stride):
    slide = Blank((width, height), mpp)
    spec = TileSpec(100, 0.5, stride, 0.5)
    tiles = plan_tiles(slide, mask_of(slide), spec)
    side = 100 * 0.5 / mpp
    assert len({tile.tile_id for tile in tiles}) == len(tiles)
    assert max(tile.x for tile in tiles) + side <= width + 1
    assert max(tile.y for tile in tiles) + side <= height + 1
    assert max(tile.x for tile in tiles) + side + stride * 0.5 / mpp > width - 1
    columns = np.unique([tile.x for tile in tiles])
    if len(columns) > 1:
        assert np.abs(np.diff(columns) - stride * 0.5 / mpp).max() <= 1


@given(seed=st.integers(0, 1000))
@settings(max_examples=10, deadline=None)
def test_tissue_fraction_is_the_exact_mean_of_the_mask(seed):
    slide = Blank((1600, 1280), 0.5)
    mask = TissueMask(np.random.default_rng(seed).random((80, 100)) < 0.7, 8.0, (255, 255, 255))
    # 152 px of 0.5 µm are 9.5 pixels of the mask.
    for tile in plan_tiles(slide, mask, TileSpec(152, 0.5, 152, 0.01)):
        fine = mask.mask.repeat(16, 0).repeat(16, 1)[tile.y : tile.y + 152, tile.x : tile.x + 152]
        assert tile.tissue_fraction == pytest.approx(fine.mean(), abs=1e-6)


def test_min_tissue_keeps_the_fuller_tiles():
    slide = Blank((1600, 800), 0.5)
    mask = mask_of(slide)
    mask.mask[:, 50:] = False
    full = plan_tiles(slide, mask, TileSpec(200, 0.5, 200, 0.5))
    assert {tile.x for tile in full} == {0, 200, 400, 600}
    assert all(tile.tissue_fraction == pytest.approx(1) for tile in full)


def test_names_have_no_dots():
    slide = Blank((400, 400), 0.5)
    assert plan_tiles(slide, mask_of(slide), TileSpec(200, 0.5, 200, 0.5))[0].tile_id == "a_b_0_0"


def test_a_slide_without_tissue_is_an_error():
    slide = Blank((1600, 1280), 0.5)
    for min_tissue in (0.5, 0.0):
        with pytest.raises(SlideError, match=r"no tissue found.*all glass"):
            plan_tiles(slide, mask_of(slide, fill=False), TileSpec(200, 0.5, 200, min_tissue))


def test_a_slide_with_too_little_tissue_is_told_the_share_that_is_needed():
    slide = Blank((1600, 1280), 0.5)
    mask = mask_of(slide, fill=False)
    mask.mask[:3, :3] = True
    with pytest.raises(SlideError, match=r"no tissue found.*lower --min-tissue \(now 0.5\)"):
        plan_tiles(slide, mask, TileSpec(200, 0.5, 200, 0.5))


def test_a_slide_smaller_than_a_tile_is_an_error():
    slide = Blank((160, 1280), 0.5)
    with pytest.raises(SlideError, match=r"smaller than one tile.*a smaller size"):
        plan_tiles(slide, mask_of(slide), TileSpec(200, 0.5, 200, 0.5))


def test_a_coarse_slide_is_refused_before_anything_is_read():
    slide = Blank((1600, 1280), 1.0)
    with pytest.raises(SlideError, match="allow-upsample"):
        plan_tiles(slide, mask_of(slide), TileSpec(200, 0.5, 200, 0.5))
    assert plan_tiles(slide, mask_of(slide), TileSpec(200, 0.5, 200, 0.5), allow_upsample=True)


def test_around_the_middle_keeps_the_nearest_in_their_order():
    tiles = [Tile(f"s_{x}_{y}", x, y, 1.0) for y in range(5) for x in range(7)]
    kept = around_the_middle(tiles, 5)
    assert [(t.x, t.y) for t in kept] == [(3, 1), (2, 2), (3, 2), (4, 2), (3, 3)]
    assert around_the_middle(tiles, 100) == tiles
