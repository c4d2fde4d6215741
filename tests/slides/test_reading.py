"""Slides at any resolution, against an independent mean; formats; resolution; damage."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dirl import synthetic
from dirl.core.errors import DirlWarning, SlideError
from dirl.slides.base import SlideInfo, fill_box
from dirl.slides.reading import open_slide, read_box


class ArraySlide:
    """A slide of two levels from an array."""

    def __init__(self, pixels, mpp=0.25):
        self.levels = [pixels, np.asarray(Image.fromarray(pixels).reduce(2))]
        height, width = pixels.shape[:2]
        self.info = SlideInfo("array", Path("array"), None, (width, height), mpp, (1.0, 2.0))
        self.asked = []

    def read_level(self, level, x, y, w, h):
        self.asked.append(level)
        pixels = self.levels[level]
        size = (pixels.shape[1], pixels.shape[0])
        return fill_box(size, x, y, w, h, lambda x, y, w, h: pixels[y : y + h, x : x + w])

    def close(self):
        pass


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)


@given(factor=st.integers(1, 7), x=st.integers(0, 60), y=st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_a_whole_factor_gives_the_mean_of_each_block(pixels, factor, x, y):
    slide = ArraySlide(pixels)
    slide.info = SlideInfo("one", Path("one"), None, (128, 96), 0.25, (1.0,))
    got = read_box(slide, x, y, 5, 4, 0.25 * factor)
    box = pixels[y : y + 4 * factor, x : x + 5 * factor].astype(float)
    want = np.full((4 * factor, 5 * factor, 3), 255.0)
    want[: box.shape[0], : box.shape[1]] = box
    want = want.reshape(4, factor, 5, factor, 3).mean((1, 3))
    assert np.abs(got - want).max() <= 0.5 + 1e-3


@given(factor=st.floats(1.1, 1.9), x=st.floats(0, 30), y=st.floats(0, 30))
@settings(max_examples=40, deadline=None)
def test_any_factor_gives_the_exact_mean_of_each_area(pixels, factor, x, y):
    got = read_box(ArraySlide(pixels), x, y, 3, 2, 0.25 * factor)
    # Independent: cut every pixel into 40 × 40 and average the small ones.
    fine = 40
    for i in range(2):
        for j in range(3):
            rows = (y + (i + (np.arange(fine * 3) + 0.5) / (fine * 3)) * factor).astype(int)
            columns = (x + (j + (np.arange(fine * 3) + 0.5) / (fine * 3)) * factor).astype(int)
            want = pixels[rows[:, None], columns].reshape(-1, 3).mean(0)
            assert np.abs(got[i, j] - want).max() < 6


def test_the_nearest_level_that_is_fine_enough_is_read(pixels):
    slide = ArraySlide(pixels)
    for mpp in (0.25, 0.4, 0.5, 0.499, 0.8):
        read_box(slide, 0, 0, 4, 4, mpp)
    assert slide.asked == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("mpp", [0.25, 0.2505, 0.2495, 0.5, 0.501])
def test_within_two_per_cent_pixels_are_taken_as_they_are(pixels, mpp):
    got = read_box(ArraySlide(pixels), 10, 20, 8, 8, mpp)
    level = ArraySlide(pixels).levels[round(mpp / 0.25) - 1]
    y, x = (20, 10) if mpp < 0.3 else (10, 5)
    assert np.array_equal(got, level[y : y + 8, x : x + 8])


def test_no_enlarging_unless_told(pixels):
    slide = ArraySlide(pixels)
    with pytest.raises(SlideError, match=r"has 0\.25 µm/px, but 0\.125 was requested.*--allow-upsample"):
        read_box(slide, 0, 0, 4, 4, 0.125)
    assert read_box(slide, 0, 0, 4, 4, 0.125, allow_upsample=True).shape == (4, 4, 3)


def test_enlarging_keeps_a_flat_colour_and_the_place(pixels):
    flat = np.full_like(pixels, 90)
    flat[:, 64:] = 200
    got = read_box(ArraySlide(flat), 32, 32, 128, 8, 0.125, allow_upsample=True)
    assert np.all(got[:, :60] == 90)
    assert np.all(got[:, 68:] == 200)


def test_outside_the_slide_is_white(pixels):
    got = read_box(ArraySlide(pixels), -8, -8, 16, 16, 0.25)
    assert np.all(got[:8] == 255)
    assert np.all(got[:, :8] == 255)
    assert np.array_equal(got[8:, 8:], pixels[:8, :8])
    assert np.all(read_box(ArraySlide(pixels), 900, 900, 4, 4, 0.5) == 255)


def test_a_plain_image_needs_a_resolution(tmp_path, pixels):
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    with pytest.raises(SlideError, match=r"a\.png: .*gives no resolution.*--mpp-override"):
        open_slide(path)
    slide = open_slide(path, 0.5)
    assert slide.info == SlideInfo("a", path, None, (128, 96), 0.5, (1.0,))
    assert np.array_equal(read_box(slide, 0, 0, 128, 96, 0.5), pixels)
    slide.close()


@pytest.mark.parametrize(("mode", "suffix"), [("L", "png"), ("P", "png"), ("RGBA", "png"), ("CMYK", "tiff")])
def test_images_of_other_modes_become_rgb(tmp_path, mode, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (9, 7), (204, 204, 204)).convert(mode).save(path)
    assert np.all(read_box(open_slide(path, 1.0), 0, 0, 9, 7, 1.0) == 204)


def test_what_is_transparent_is_white(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGBA", (9, 7), (10, 20, 30, 0)).save(path)
    assert np.all(read_box(open_slide(path, 1.0), 0, 0, 9, 7, 1.0) == 255)


def test_deep_and_huge_and_broken_images_are_refused(tmp_path, monkeypatch):
    deep = tmp_path / "deep.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(deep)
    with pytest.raises(SlideError, match="not an 8-bit image"):
        open_slide(deep, 1.0)
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(SlideError, match=r"text\.png: cannot be read"):
        open_slide(text, 1.0)
    huge = tmp_path / "huge.png"
    Image.new("L", (64, 64)).save(huge)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(SlideError, match=r"too large.*pyramidal"):
        open_slide(huge, 1.0)
    monkeypatch.undo()
    cut = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)).save(cut)
    cut.write_bytes(cut.read_bytes()[:4000])
    with pytest.raises(SlideError, match=r"cut\.png: cannot be read"):
        read_box(open_slide(cut, 1.0), 0, 0, 4, 4, 1.0)


def test_errors_of_real_slides(data_dir):
    slides = data_dir / "slides"
    with pytest.raises(SlideError, match=r"broken\.svs: cannot be read"):
        open_slide(slides / "broken.svs")
    with pytest.raises(SlideError, match=r"TCGA-CR-7395.*gives no resolution.*--mpp-override"):
        open_slide(slides / "TCGA-CR-7395-01A-01-TS1.svs")
    with pytest.raises(SlideError, match="no such file"):
        open_slide(slides / "none.svs")


def test_a_stated_resolution_wins(data_dir):
    with pytest.warns(DirlWarning, match=r"a file gives 0\.499 µm/px, but 0\.6 µm/px is used"):
        slide = open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs", 0.6)
    assert slide.info.mpp == 0.6
    tcga = open_slide(data_dir / "slides" / "TCGA-CR-7395-01A-01-TS1.svs", 0.25)
    assert (tcga.info.mpp, tcga.info.patient_id) == (0.25, "TCGA-CR-7395")


def test_a_dicom_folder_shows_what_the_svs_shows(data_dir):
    svs = open_slide(data_dir / "slides" / "CMU-1-Small-Region.svs")
    dicom = open_slide(data_dir / "slides" / "dicom-cmu-1-small-region")
    assert dicom.info.size_px == svs.info.size_px
    assert dicom.info.mpp == pytest.approx(svs.info.mpp)
    a, b = (read_box(slide, 1000, 1500, 512, 512, 0.5).astype(int) for slide in (svs, dicom))
    # JPEG twice over; a wrong colour space would differ by 70 and more.
    assert np.abs(a - b).mean() < 10
    assert a.mean((0, 1)) == pytest.approx(b.mean((0, 1)), abs=2)


def test_another_resolution_than_the_file_gives_is_taken_with_a_warning(tmp_path: Path) -> None:
    synthetic.write(tmp_path / "a.tif", seed=1, size_px=(256, 256), mpp=0.5)
    with pytest.warns(DirlWarning, match=r"a file gives 0\.5 µm/px, but 0\.25 µm/px is used"):
        assert open_slide(tmp_path / "a.tif", mpp_override=0.25).info.mpp == 0.25
    assert open_slide(tmp_path / "a.tif", mpp_override=0.499).info.mpp == 0.499  # within 2 %, no warning
