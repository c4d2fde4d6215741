"""Plain images: which page, which channels, how many bits, what resolution, how large."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dirl.config import TileConfig
from dirl.core.errors import DirlError, PartlyFailedError, SlideError
from dirl.slides.image import open_image
from dirl.slides.openslide import OpenSlideSlide
from dirl.slides.reading import open_slide
from dirl.store.build import tile
from dirl.synthetic import draw


@pytest.fixture(scope="module")
def rgb():
    return np.random.default_rng(0).integers(0, 256, (150, 200, 3)).astype(np.uint8)


def write(path, *images, ome=False, **options):
    with tifffile.TiffWriter(path, ome=ome) as tiff:
        for image in images:
            tiff.write(np.ascontiguousarray(image), **options)
    return path


def read_whole(path, mpp=0.5):
    slide = open_slide(path, mpp)
    try:
        return slide.read_level(0, 0, 0, *slide.info.size_px)
    finally:
        slide.close()


@pytest.mark.parametrize("tiles", [{}, {"tile": (64, 64)}])
def test_the_largest_page_is_the_slide(tmp_path, rgb, tiles):
    path = write(tmp_path / "a.tif", rgb[::4, ::4], rgb, photometric="rgb", **tiles)
    np.testing.assert_array_equal(read_whole(path), rgb)


def test_a_pyramid_of_tiles_is_still_openslides(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb, rgb[::2, ::2], photometric="rgb", tile=(64, 64))
    assert isinstance(open_slide(path, 0.5), OpenSlideSlide)


def test_of_several_images_of_one_size_the_first_is_taken_and_that_is_said(tmp_path, rgb):
    path = write(tmp_path / "a.tif", rgb, rgb[::-1], photometric="rgb")
    with pytest.warns(UserWarning, match="several images of one size; the first is used"):
        np.testing.assert_array_equal(read_whole(path), rgb)


@pytest.mark.parametrize("tiles", [{}, {"tile": (64, 64)}])
@pytest.mark.parametrize("kind", ["minisblack", "rgb"])
def test_channels_first_is_rgb(tmp_path, rgb, tiles, kind):
    planar = {"planarconfig": "separate"} if kind == "rgb" else {}
    path = tmp_path / "a.ome.tif"
    write(
        path, np.moveaxis(rgb, -1, 0), ome=True, photometric=kind, metadata={"axes": "CYX"}, **planar, **tiles
    )
    np.testing.assert_array_equal(read_whole(path), rgb)


@pytest.mark.parametrize("tiles", [{}, {"tile": (64, 64)}])
@pytest.mark.parametrize(("channels", "axes"), [(2, "CYX"), (5, "CYX"), (3, "ZYX")])
def test_what_is_not_red_green_and_blue_is_refused(tmp_path, rgb, channels, axes, tiles):
    planes = np.stack([rgb[..., 0]] * channels)
    path = tmp_path / "a.ome.tif"
    write(path, planes, ome=True, photometric="minisblack", metadata={"axes": axes}, **tiles)
    with pytest.raises(SlideError, match=r"channels, not red|several grey images.*export it as 8-bit RGB"):
        open_slide(path, 0.5)


@given(
    bits=st.sampled_from([8, 10, 12, 14, 16]),
    stated=st.booleans(),
    tiled=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_bits_in_sixteen_are_scaled(tmp_path_factory, bits, stated, tiled, seed):
    values = np.random.default_rng(seed).integers(0, 2**bits, (70, 90, 3)).astype(np.uint16)
    values[0, 0] = 2**bits - 1
    tags = {"extratags": [(281, 3, 3, (2**bits - 1,) * 3, True)]} if stated else {}
    tiles = {"tile": (64, 64)} if tiled else {}
    path = write(tmp_path_factory.mktemp("deep") / "a.tif", values, photometric="rgb", **tags, **tiles)
    want = np.rint(values * (255 / (2**bits - 1)))
    if stated or bits == 16:
        got = read_whole(path)
    else:
        with pytest.warns(UserWarning, match=f"the brightest pixel uses {bits}; read as {bits} bits"):
            got = read_whole(path)
    assert np.abs(got - want).max() <= 1


def test_stated_bits_count_when_the_slide_is_darker(tmp_path, rgb):
    values = rgb.astype(np.uint16) * 2  # 9 bits of 12
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "YXS", "SignificantBits": 12}
    write(path, values, ome=True, photometric="rgb", metadata=metadata)
    assert np.abs(read_whole(path) - rgb * (2 * 255 / 4095)).max() <= 1


def test_what_has_no_bits_to_take_is_refused(tmp_path, rgb):
    black = write(tmp_path / "black.tif", np.zeros((64, 64, 3), np.uint16), photometric="rgb")
    with pytest.raises(SlideError, match=r"black\.tif: every pixel is black"):
        read_whole(black)
    real = write(tmp_path / "real.tif", rgb.astype(np.float32), photometric="rgb", tile=(64, 64))
    with pytest.raises(
        SlideError, match=r"not an 8-bit image \(3 channels of float32.*export it as 8-bit RGB"
    ):
        open_slide(real, 0.5)


def png(path, width, height, bits, rows):
    """Write a PNG in RGB chunk by chunk: Pillow writes none of 16 bits, and none that claims too much."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def deep_png(path, values):
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return png(path, values.shape[1], values.shape[0], 16, rows)


def test_sixteen_bits_of_a_png_are_not_read_as_black(tmp_path, rgb):
    values = rgb.astype(np.uint16)
    np.testing.assert_array_equal(read_whole(deep_png(tmp_path / "full.png", values * 257)), rgb)
    with pytest.raises(SlideError, match=r"12\.png: nearly black: it has 16 bits.*export it as 8-bit RGB"):
        read_whole(deep_png(tmp_path / "12.png", values * 16))


@pytest.mark.parametrize("dpi", [1, 72, 96, 300, 600])
@pytest.mark.parametrize("deep", [False, True])
def test_dots_per_inch_are_no_resolution(tmp_path, rgb, dpi, deep):
    values = rgb.astype(np.uint16) * 257 if deep else rgb
    options = {"photometric": "rgb", "tile": (64, 64), "resolution": (dpi, dpi), "resolutionunit": "INCH"}
    path = write(tmp_path / "a.tif", values, **options)
    with pytest.raises(SlideError, match=rf"{dpi} dots per inch .*default of programs.*--mpp-override"):
        open_slide(path)
    assert open_slide(path, 0.5).info.mpp == 0.5


@given(mpp=st.floats(0.06, 19))
@settings(max_examples=10, deadline=None)
def test_a_scanners_resolution_is_one(tmp_path_factory, rgb, mpp):
    per_cm = 10_000 / mpp
    options = {"photometric": "rgb", "tile": (64, 64), "resolution": (per_cm, per_cm)}
    path = write(tmp_path_factory.mktemp("mpp") / "a.tif", rgb, **options, resolutionunit="CENTIMETER")
    assert open_slide(path).info.mpp == pytest.approx(mpp, rel=1e-3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_an_image_beyond_the_limit_is_refused_by_its_header(tmp_path, rgb, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rgb).save(path)
    with pytest.raises(
        SlideError, match=r"too large.*200×150 px are 0\.0 million.*limit.*dirl tile --max-pixels"
    ):
        open_slide(path, 0.5, max_pixels=29_999)
    assert open_slide(path, 0.5, max_pixels=30_000).info.size_px == (200, 150)


def test_a_bomb_is_refused_in_no_time(tmp_path):
    bomb = png(tmp_path / "bomb.png", 100_000, 100_000, 8, bytes(1000))
    with pytest.raises(SlideError, match=r"100000×100000 px are 10,000\.0 million, the limit is 1,000\.0"):
        open_image(bomb)


def test_pillows_own_limit_is_no_limit_unless_set(tmp_path, monkeypatch):
    path = tmp_path / "wide.png"
    Image.new("1", (20_000, 10_000)).save(path)  # Pillow alone refuses it
    before = Image.MAX_IMAGE_PIXELS
    assert open_image(path).size_px == (20_000, 10_000)
    assert before == Image.MAX_IMAGE_PIXELS


def test_the_limit_holds_for_slides_and_ready_made_tiles_of_a_store(tmp_path):
    pixels = draw(5, (256, 256), 2.0).rgb
    Image.fromarray(pixels).save(tmp_path / "a.png")
    (tmp_path / "tiles" / "x").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "tiles" / "x" / "0.png")
    config = TileConfig(size_px=64, mpp=2.0, mpp_override=2.0, max_pixels=60_000)
    for place in ("a.png", "tiles"):
        with pytest.raises(SlideError, match="too large"):
            tile([tmp_path / place], tmp_path / "out", config, quiet=True)
    store = tile(
        [tmp_path / "a.png"], tmp_path / "out", config.model_copy(update={"max_pixels": 70_000}), quiet=True
    )
    assert "max_pixels" not in store.card.config


def test_tiles_of_unknown_bits_are_refused(tmp_path, rgb):
    (tmp_path / "in" / "x").mkdir(parents=True)
    values = rgb[:128, :128].astype(np.uint16) * 16
    write(tmp_path / "in" / "x" / "0.tif", values, photometric="rgb")
    with pytest.raises(SlideError, match=r"0\.tif: has 16 bits a channel, but the brightest pixel uses 12"):
        tile([tmp_path / "in"], tmp_path / "out", TileConfig(mpp_override=0.5), quiet=True)


@given(
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["png", "jpg", "tif", "tiled.tif", "deep.tif", "ome.tif"]),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore")
def test_damage_is_our_own_error(tmp_path_factory, rgb, seed, kind):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("damaged") / f"a.{kind}"
    if kind in {"png", "jpg"}:
        Image.fromarray(rgb).save(path)
    else:
        values = rgb.astype(np.uint16) * 257 if kind == "deep.tif" else rgb
        options = {"tile": (64, 64)} if kind == "tiled.tif" else {}
        write(path, values, photometric="rgb", ome=kind == "ome.tif", **options)
    data = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        data = data[: rng.integers(1, len(data))]
    for at in rng.integers(0, min(len(data), 700), 4):
        data[at] = rng.integers(256)
    path.write_bytes(data)
    try:
        slide = open_slide(path, 0.5)
        slide.read_level(0, 0, 0, 200, 150)
    except DirlError as error:
        assert not isinstance(error, PartlyFailedError) and str(path) in str(error)
