"""The synthetic slide: the same from the same seed, its truth fits its picture, OpenSlide reads it."""

from pathlib import Path

import numpy as np
import openslide
import pytest
from PIL import Image
from scipy import ndimage

from dirl.slides.reading import open_slide, read_box
from dirl.synthetic import draw, write


@pytest.fixture(scope="module")
def slide():
    return draw(0, (1024, 768))


def test_the_same_seed_gives_the_same_slide(slide):
    again = draw(0, (1024, 768))
    assert np.array_equal(again.rgb, slide.rgb)
    assert np.array_equal(again.labels, slide.labels)
    assert not np.array_equal(draw(1, (256, 256)).rgb, draw(2, (256, 256)).rgb)


def test_nuclei_are_numbered_without_gaps_and_of_true_size(slide):
    assert slide.rgb.shape == (768, 1024, 3)
    assert slide.labels.shape == (768, 1024)
    sizes = np.bincount(slide.labels.ravel())[1:]
    assert sizes.min() >= 9
    assert len(sizes) > 200
    diameter_um = np.sqrt(np.median(sizes) * slide.mpp**2 * 4 / np.pi)
    assert 5 < diameter_um < 10


def test_nuclei_are_where_the_picture_is_dark_and_blue(slide):
    nuclei = slide.labels > 0
    ring = ndimage.binary_dilation(nuclei, iterations=6) & ~ndimage.binary_dilation(nuclei, iterations=2)
    inside, outside = slide.rgb[nuclei].mean(0), slide.rgb[ring].mean(0)
    assert inside[0] < outside[0] - 50
    assert inside[2] > inside[0] > inside[1]


def test_openslide_reads_pyramid_and_resolution(tmp_path):
    made = write(tmp_path / "a.tiff", 4, (1100, 600), 0.25)
    with openslide.OpenSlide(tmp_path / "a.tiff") as raw:
        assert raw.level_count == 2
    slide = open_slide(tmp_path / "a.tiff")
    assert slide.info.mpp == pytest.approx(0.25, rel=1e-4)
    assert slide.info.size_px == (1100, 600)
    assert np.array_equal(read_box(slide, 0, 0, 1100, 600, 0.25), made.rgb)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.labels.png")), made.labels)


def test_an_interrupted_slide_is_never_without_its_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.tif"
    for place in ("PIL.Image.Image.save", "tifffile.TiffWriter.write"):
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            with pytest.raises(KeyboardInterrupt):
                write(path, seed=1, size_px=(256, 256))
        assert not path.exists()
    assert path.with_suffix(".labels.png").exists()
