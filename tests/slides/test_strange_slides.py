"""Slides with strange names, orientations, colours and units: read as stored, or refused in words."""

import warnings
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from dirl.config import TileConfig
from dirl.core.errors import ConfigError, PartlyFailedError, SlideError
from dirl.slides.discovery import find_inputs
from dirl.slides.reading import open_slide
from dirl.slides.tiff import ome_resolution
from dirl.slides.tissue import find_tissue
from dirl.store.build import tile
from dirl.synthetic import draw
from dirl.tables.cohort import read_cohort
from tests.slides.test_glass import ArraySlide, overlap

CONFIG = TileConfig(size_px=64, mpp=2.0, mpp_override=2.0)


@pytest.fixture(scope="module")
def rgb():
    return draw(5, (256, 192), 2.0).rgb


def save(path, rgb):
    Image.fromarray(rgb).save(path, "PNG")
    return path


@pytest.mark.parametrize(
    "name", ["a b", "ünï 切片", "100%", "%s", "#1", "-dash", "dots..", " blank ", "a;b,c", "a\u202fb"]
)
def test_slides_of_any_printable_name_are_tiled(tmp_path, rgb, name):
    store = tile([save(tmp_path / f"{name}.png", rgb)], tmp_path / "store", CONFIG, quiet=True)
    assert list(store.slides) == [name]


@pytest.mark.parametrize("name", ["new\nline", "tab\t"])
def test_control_characters_in_a_name_are_refused(tmp_path, rgb, name):
    with pytest.raises(SlideError, match="control character"):
        find_inputs([save(tmp_path / f"{name}.png", rgb)])


@pytest.mark.parametrize("name", ["..", "a:b"])
def test_names_that_would_lead_out_of_a_store_are_the_slides_fault(tmp_path, rgb, name):
    with pytest.raises(SlideError, match="cannot be a slide's name"):
        find_inputs([save(tmp_path / f"{name}.png", rgb)])


def test_a_link_to_itself_is_a_file_that_is_missing(tmp_path, rgb):
    (tmp_path / "in").mkdir()
    save(tmp_path / "in" / "b.png", rgb)
    (tmp_path / "in" / "a.png").symlink_to("a.png")
    with pytest.raises(PartlyFailedError, match=r"a\.png: no such file"):
        tile([tmp_path / "in"], tmp_path / "store", CONFIG, quiet=True)


def test_a_patient_with_a_line_break_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text('slide,patient\na,"p\n1"\n')
    with pytest.raises(ConfigError, match="line break"):
        read_cohort(tmp_path / "t.csv", ["a"])


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", ["strips", "tiles", "png"])
def test_what_viewers_turn_is_read_as_stored_and_that_is_said(tmp_path, rgb, orientation, kind):
    path = tmp_path / f"a.{'png' if kind == 'png' else 'tif'}"
    if kind == "png":
        exif = Image.Exif()
        exif[274] = orientation
        Image.fromarray(rgb).save(path, exif=exif)
    else:
        options: dict[str, Any] = {"tile": (64, 64)} if kind == "tiles" else {}
        tags = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(path, rgb, photometric="rgb", extratags=tags, metadata=None, **options)
    with pytest.warns(UserWarning, match=rf"orientation {orientation}\); it is read as it is stored"):
        slide = open_slide(path, 0.5)
    np.testing.assert_array_equal(slide.read_level(0, 0, 0, *slide.info.size_px), rgb)
    slide.close()


@pytest.mark.parametrize("tiles", [{}, {"tile": (64, 64)}])
def test_other_colours_than_rgb_are_refused(tmp_path, rgb, tiles):
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="cielab", **tiles)
    with pytest.raises(SlideError, match="colours of type CIELAB"):
        open_slide(tmp_path / "a.tif", 0.5)


@pytest.mark.parametrize(
    ("size", "unit"),
    [(0.25, "µm"), (250, "nm"), (0.00025, "mm"), (2.5e-5, "cm"), (0.25, "\u03bcm"), (0.25, None)],
)
@pytest.mark.parametrize("tiles", [{}, {"tile": (64, 64)}])
def test_the_resolution_of_an_ome_description(tmp_path, rgb, tiles, size, unit):
    axes = {f"PhysicalSize{axis}": size for axis in "XY"}
    axes |= {f"PhysicalSize{axis}Unit": unit for axis in "XY"} if unit else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tifffile, about the sign
        with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as tiff:
            # The tags state the default of a program.
            tiff.write(rgb, photometric="rgb", resolution=(72, 72), metadata={"axes": "YXS", **axes}, **tiles)
    assert open_slide(tmp_path / "a.ome.tif").info.mpp == pytest.approx(0.25)


def test_an_ome_resolution_is_of_the_image_of_that_size():
    text = (
        '<Pixels SizeX="9" SizeY="9" PhysicalSizeX="4" PhysicalSizeY="4"/><ome:Pixels SizeX="90" SizeY="80" '
    )
    whole = (
        text + 'PhysicalSizeX="0.5" PhysicalSizeY="500" PhysicalSizeYUnit="nm" PhysicalSizeXUnit="&#181;m">'
    )
    assert ome_resolution(whole, (90, 80)) == (0.5, 0.5)
    assert ome_resolution(whole, (80, 90)) is None
    for other in ('PhysicalSizeX="1" PhysicalSizeY="1" PhysicalSizeXUnit="pixel">', 'PhysicalSizeX="0.5">'):
        assert ome_resolution(text + other, (90, 80)) is None
    assert ome_resolution(text + 'PhysicalSizeX="nan" PhysicalSizeY="1">', (90, 80)) is None


@pytest.mark.parametrize("black", [0, 10])
def test_black_around_most_of_the_scan_is_not_its_glass(black):
    pixels = draw(5, (512, 512), 2.0).rgb
    whole = find_tissue(ArraySlide(pixels))
    pixels = pixels.copy()
    pixels[:, :380] = black
    found = find_tissue(ArraySlide(pixels))
    assert overlap(found.mask[:, 99:], whole.mask[:, 99:]) >= 0.95
    assert found.white == pytest.approx(whole.white, abs=3)
    assert not find_tissue(ArraySlide(np.full((200, 200, 3), black, np.uint8))).mask.any()
