"""Tissue is found on the synthetic slide; glass, ink and black are not tissue."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dirl.core.errors import SlideError
from dirl.slides.base import SlideInfo
from dirl.slides.glass import glass_colour
from dirl.slides.reading import open_slide
from dirl.slides.tissue import find_tissue, low_power, tissue_pixels
from dirl.synthetic import draw

SIZE_PX = 1024


@pytest.fixture(scope="module")
def rgb():
    """A synthetic slide of 0.5 × 0.5 mm with a black border on its left."""
    pixels = draw(5, (SIZE_PX, SIZE_PX)).rgb.copy()
    pixels[:, :60] = 6
    return pixels


@pytest.fixture(scope="module")
def mask(rgb, tmp_path_factory):
    path = tmp_path_factory.mktemp("slide") / "a.png"
    Image.fromarray(rgb).save(path)
    return find_tissue(open_slide(path, 0.5))


def enlarged(mask, scale=16):
    return mask.mask.repeat(scale, 0).repeat(scale, 1)[:SIZE_PX, :SIZE_PX]


def ink(rgb):
    red, green, blue = np.moveaxis(rgb.astype(int), -1, 0)
    return (blue > 85) & (red < 80) & (blue > green + 30) & (blue > red + 50)


def test_the_mask_covers_tissue_and_no_glass(mask, rgb):
    found = enlarged(mask)
    assert 0.3 < mask.fraction < 0.8
    assert found[400:600, 300:600].mean() > 0.9
    assert not found[:8].any()
    assert mask.mpp == 8
    assert mask.white == pytest.approx((243, 241, 243), abs=3)


def test_a_slide_of_one_level_is_read_in_parts(rgb, tmp_path, monkeypatch):
    Image.fromarray(rgb).save(tmp_path / "a.png")
    slide = open_slide(tmp_path / "a.png", 0.5)
    whole = low_power(slide, 8)
    monkeypatch.setattr("dirl.slides.tissue.READ_PX", 100)
    areas, read_level = [], slide.read_level

    def watched(level, x, y, w, h):
        areas.append(w * h)
        return read_level(level, x, y, w, h)

    monkeypatch.setattr(slide, "read_level", watched)
    np.testing.assert_array_equal(low_power(slide, 8), whole)
    assert len(areas) > 100 and max(areas) <= 100**2


def test_ink_is_left_out(mask, rgb):
    marks = ndimage.binary_opening(ink(rgb), iterations=3)
    assert marks.sum() > 2000
    assert enlarged(mask)[marks].mean() < 0.02
    assert tissue_pixels(rgb, 0.5, mask.white)[marks].mean() < 0.05


@pytest.mark.parametrize("seed", [0, 3])
def test_ink_over_tissue_is_left_out(seed):
    pixels = draw(seed, (SIZE_PX, SIZE_PX)).rgb
    marks = ndimage.binary_opening(ink(pixels), iterations=3)
    assert marks.sum() > 2000
    assert tissue_pixels(pixels, 0.5)[marks].mean() < 0.05


def test_the_black_border_is_left_out(mask, rgb):
    assert not enlarged(mask)[:, :48].any()
    assert tissue_pixels(rgb, 0.5, mask.white)[:, :56].mean() < 0.01


@pytest.mark.parametrize("colour", [(30, 70, 180), (20, 130, 70), (215, 25, 45), (15, 15, 18)])
def test_every_pen_is_ink(colour):
    pixels = np.full((256, 256, 3), 242, np.uint8)
    pixels[60:160, 20:230] = colour
    assert not tissue_pixels(pixels, 1.0, (242, 242, 242)).any()


@pytest.mark.parametrize("colour", [(225, 160, 195), (120, 70, 150), (75, 45, 110), (235, 205, 222)])
def test_no_mixture_of_the_stains_is_ink(colour):
    pixels = np.full((256, 256, 3), 242, np.uint8)
    pixels[60:160, 20:230] = colour
    assert tissue_pixels(pixels, 1.0, (242, 242, 242))[62:158, 22:228].all()


def test_grey_dust_is_not_tissue():
    pixels = np.full((128, 128, 3), 242, np.uint8)
    pixels[40:90, 40:90] = 190
    assert not tissue_pixels(pixels, 1.0, (242, 242, 242)).any()


def test_glass_has_its_own_colour_and_unscanned_white_none():
    pixels = np.full((64, 64, 3), 255, np.uint8)
    pixels[:16] = (238, 234, 236)
    assert glass_colour(pixels) == (238, 234, 236)
    assert glass_colour(np.full((8, 8, 3), (180, 90, 140), np.uint8)) == (255, 255, 255)


def test_a_resolution_changes_little(rgb):
    fine = tissue_pixels(rgb, 0.5)
    coarse = tissue_pixels(np.asarray(Image.fromarray(rgb).reduce(2)), 1.0)
    assert fine.mean() == pytest.approx(coarse.mean(), abs=0.02)
    assert fine.shape == rgb.shape[:2]


def test_a_slide_larger_than_any_glass_is_refused_before_memory_is_taken():
    class Claimed:
        info = SlideInfo("a", Path("a.tif"), None, (2**31, 2**31), 0.5, (1.0,))

    with pytest.raises(SlideError, match=r"a\.tif: measures 1,073,742×1,073,742 mm.*--mpp-override"):
        find_tissue(Claimed())  # type: ignore[arg-type]  # nothing else of it is asked
