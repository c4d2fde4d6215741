"""Glass of any colour: the mask of a tinted slide is that of its white-balanced copy."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dirl.config import TileConfig
from dirl.slides.base import SlideInfo, fill_box
from dirl.slides.glass import WHITE, glass_colour, tinted_glass
from dirl.slides.tissue import find_tissue, tissue_pixels, warn_all_tissue
from dirl.store.build import tile
from dirl.synthetic import draw

SIDE_PX, MPP = 512, 2.0
CHANNEL = st.floats(0.55, 1.0)


class ArraySlide:
    def __init__(self, pixels, mpp=MPP):
        self.pixels = pixels
        size = (pixels.shape[1], pixels.shape[0])
        self.info = SlideInfo("array", Path("array"), None, size, mpp, (1.0,))

    def read_level(self, level, x, y, w, h):
        return fill_box(self.info.size_px, x, y, w, h, lambda x, y, w, h: self.pixels[y : y + h, x : x + w])

    def close(self):
        pass


def tinted(pixels, tint):
    return np.rint(pixels * np.asarray(tint)).astype(np.uint8)


def strong_hematoxylin(pixels, white):
    """The same with 1.5 times the red optical density."""
    red = white[0] * (np.minimum(pixels[..., 0], white[0]) / white[0]) ** 1.5
    return np.dstack([np.rint(red).astype(np.uint8), pixels[..., 1:]])


def overlap(one, other):
    return (one & other).sum() / (one | other).sum()


@pytest.fixture(scope="module")
def pixels():
    """A synthetic slide of 1 × 1 mm with ink on it."""
    return draw(5, (SIDE_PX, SIDE_PX), MPP).rgb


@pytest.fixture(scope="module")
def found(pixels):
    return find_tissue(ArraySlide(pixels))


@given(tint=st.tuples(CHANNEL, CHANNEL, CHANNEL))
@settings(max_examples=60, deadline=None)
def test_a_tint_leaves_the_mask_as_it_is(pixels, found, tint):
    red, green, blue = tint
    assume(green > 0.92 * min(red, blue))  # else it is the colour of eosin
    mask = find_tissue(ArraySlide(tinted(pixels, tint)))
    assert overlap(mask.mask, found.mask) >= 0.95
    assert mask.white == pytest.approx(np.multiply(found.white, tint), abs=2)


@pytest.mark.parametrize("tint", [(1, 0.9, 0.6), (0.7, 0.8, 1), (0.6, 0.6, 0.6), (1, 0.95, 0.85)])
def test_unscanned_white_and_black_beside_tinted_glass(pixels, found, tint):
    copy = tinted(pixels, tint)
    copy[:, :100] = 255
    copy[-60:] = 5
    mask = find_tissue(ArraySlide(copy))
    assert not mask.mask[:-16, :24].any() and not mask.mask[-14:].any()
    assert overlap(mask.mask[:-16, 27:], found.mask[:-16, 27:]) >= 0.95


def test_a_tile_is_judged_by_its_slides_glass(pixels, found):
    copy = tinted(pixels, (1, 0.9, 0.6))
    white = find_tissue(ArraySlide(copy)).white
    masks = tissue_pixels(copy, MPP, white), tissue_pixels(pixels, MPP, found.white)
    assert overlap(*masks) >= 0.98


@pytest.mark.parametrize("seed", [1, 5])
def test_strong_hematoxylin_is_no_ink(seed):
    pixels = draw(seed, (SIDE_PX, SIDE_PX), MPP).rgb
    found = find_tissue(ArraySlide(pixels))
    mask = find_tissue(ArraySlide(strong_hematoxylin(pixels, found.white))).mask
    assert (mask & found.mask).sum() >= 0.97 * found.mask.sum()
    # The ink on these slides stays out.
    assert (mask & ~found.mask).mean() < 0.02


def test_what_is_stained_is_no_glass():
    rng = np.random.default_rng(0)
    tissue = np.full((64, 64, 3), (215, 150, 190)) + rng.integers(-12, 13, (64, 64, 1))
    assert glass_colour(tissue.astype(np.uint8)) == WHITE
    even = tissue.copy()
    even[:12, :12] = (200, 130, 175)  # an even part, darker than the rest
    assert glass_colour(even.astype(np.uint8)) == WHITE
    yellow = tissue.copy()
    yellow[:12, :12] = (240, 220, 150)
    assert glass_colour(yellow.astype(np.uint8)) == (240, 220, 150)
    assert tinted_glass(yellow.astype(np.uint8)) == (240, 220, 150)


def test_white_glass_is_not_tinted(pixels):
    assert tinted_glass(pixels) is None


def test_a_yellow_slide_gives_as_many_tiles_as_a_white_one(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "white.png")
    Image.fromarray(tinted(pixels, (1, 0.9, 0.6))).save(tmp_path / "yellow.png")
    config = TileConfig(size_px=32, mpp=MPP, mpp_override=MPP)
    store = tile([tmp_path / "white.png", tmp_path / "yellow.png"], tmp_path / "store", config, quiet=True)
    white, yellow = (store.slides[name].tiles for name in ("white", "yellow"))
    assert 0 < white < 256
    assert yellow == pytest.approx(white, abs=2)


def test_ready_made_tiles_know_their_tinted_glass(tmp_path, pixels):
    for name, tint in (("plain", (1, 1, 1)), ("blue", (0.7, 0.8, 1))):
        (tmp_path / name).mkdir()
        for i in range(4):
            part = tinted(pixels, tint)[128 * i : 128 * (i + 1), :128]
            Image.fromarray(part).save(tmp_path / name / f"{i}.png")
    store = tile([tmp_path], tmp_path / "store", TileConfig(mpp_override=MPP), quiet=True)
    plain, blue = store.slides["plain"], store.slides["blue"]
    assert plain.white == WHITE
    assert blue.white == pytest.approx((170, 193, 243), abs=3)
    assert blue.tissue_fraction == pytest.approx(plain.tissue_fraction, abs=0.02)


def test_no_glass_at_all_is_a_warning_that_says_what_to_do(tmp_path):
    rng = np.random.default_rng(0)
    tissue = (np.full((256, 256, 3), (215, 150, 190)) + rng.integers(-40, 41, (256, 256, 1))).astype(np.uint8)
    Image.fromarray(tissue).save(tmp_path / "a.png")
    config = TileConfig(size_px=64, mpp=MPP, mpp_override=MPP)
    with pytest.warns(UserWarning, match=r"no bare glass found.*: a\. .*crop of tissue.*white balance"):
        tile([tmp_path / "a.png"], tmp_path / "store", config, quiet=True)


def test_several_slides_without_glass_are_one_warning():
    with pytest.warns(UserWarning, match="taken as tissue: 2 slides, the first a") as caught:
        warn_all_tissue([("a", WHITE, 0.99), ("b", (240, 230, 200), 0.99), ("c", WHITE, 0.96)])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_all_tissue([("a", WHITE, 0.6)])
