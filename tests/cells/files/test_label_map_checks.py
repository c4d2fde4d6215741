"""Label images: classes, backgrounds and damaged files are refused, maps of nuclei are not."""

import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dirl.cells.files.label_map_checks import check_instances
from dirl.cells.files.label_maps import read_map
from dirl.cells.files.label_pictures import LARGEST_PX
from dirl.core.errors import ConfigError, DirlError
from dirl.synthetic.slide import draw

HERE_FILE = Path("a.png")


@pytest.fixture(scope="module")
def truth():
    return draw(5, (512, 512)).labels


@given(classes=st.integers(2, 8), seed=st.integers(0, 2**16))
@settings(max_examples=20)
def test_a_map_of_classes_is_refused(truth, classes, seed):
    nuclei = int(truth.max())
    lookup = np.concatenate([[0], np.random.default_rng(seed).integers(1, classes + 1, nuclei)])
    with pytest.raises(
        ConfigError, match=r"far from each other: classes.*skimage\.measure\.label\(labels\).*a\.json"
    ):
        check_instances(lookup[truth], HERE_FILE)


@pytest.mark.parametrize("places", [[(20, 30), (60, 90)], [(20, 30), (60, 90), (90, 20)]])
def test_a_map_of_classes_of_a_few_nuclei_is_refused(places):
    """A tile has so few nuclei that each class has two or three."""
    labels = np.zeros((128, 128), np.uint8)
    for y, x in places:
        labels[y : y + 14, x : x + 16] = 3
        labels[y : y + 14, x + 16 : x + 20] = 5
    with pytest.raises(ConfigError, match=r"far from each other: classes|a mask"):
        check_instances(labels, HERE_FILE)


def test_a_nucleus_that_the_border_cuts_in_two_passes():
    labels = np.zeros((128, 128), np.uint8)
    labels[10:18, 118:], labels[60:68, 118:] = 3, 3
    assert np.array_equal(check_instances(labels, HERE_FILE), labels)


def test_numbers_of_several_images_in_one_are_refused(truth):
    """Where there are thousands, too."""
    crop = truth[128:384, 128:384]
    several = np.vstack([crop + k * truth.max() * (crop > 0) for k in range(60)])
    assert len(np.unique(several)) > 1000
    assert np.array_equal(check_instances(several, HERE_FILE), several)
    with pytest.raises(ConfigError, match="ids that were used twice"):
        check_instances(np.hstack([several, np.roll(several, 128 * 30, 0)]), HERE_FILE)


def test_numbers_that_ran_over_in_eight_bits_are_refused(truth):
    crop = truth[128:384, 128:384]
    several = np.vstack([crop + k * truth.max() * (crop > 0) for k in range(12)])
    assert several.max() > 400
    assert np.array_equal(check_instances(several, HERE_FILE), several)
    with pytest.raises(ConfigError, match="ids that were used twice"):
        check_instances(several.astype(np.uint8), HERE_FILE)


@given(st.integers(0, 2**16), st.integers(1, 3))
@settings(max_examples=20)
def test_a_few_split_nuclei_pass(truth, seed, width):
    """Strips without labels cut some nuclei into two or three, as another nucleus on top of them does."""
    rng = np.random.default_rng(seed)
    split = truth.copy()
    for row in rng.integers(0, len(split), 6):
        split[row : row + width] = 0
    # One nucleus in twenty has a part elsewhere.
    for number in rng.integers(1, truth.max() + 1, truth.max() // 20):
        y, x = rng.integers(0, 500, 2)
        split[y : y + 8, x : x + 8] = number
    assert np.array_equal(check_instances(split, HERE_FILE), split)


@pytest.mark.parametrize("number", [1, 9000])
def test_a_background_with_a_number_is_refused(truth, number):
    labels = np.where(truth > 0, truth + 1, 0)
    labels[labels == 0] = number
    with pytest.raises(ConfigError, match=rf"id {number} covers \d+% .*: a background, .*labels == {number}"):
        check_instances(labels, HERE_FILE)


def test_a_background_between_crowded_nuclei_and_a_frame_are_refused():
    labels = np.repeat(np.repeat(np.arange(1, 37).reshape(6, 6), 20, 0), 20, 1)
    crowded, framed = labels.copy(), labels.copy()
    for line in (slice(None, None, 20), slice(1, None, 20), -1):
        crowded[line], crowded[:, line] = 99, 99
    framed[~np.pad(np.ones((104, 104), bool), 8)] = 99
    assert (crowded == 99).mean() < 0.5 and (framed == 99).mean() < 0.5
    for ids in (crowded, framed):
        with pytest.raises(ConfigError, match=r"id 99 covers .* touches all four borders: a background"):
            check_instances(ids, HERE_FILE)


def test_a_nucleus_that_fills_a_small_tile_passes():
    labels = np.ones((16, 16), int)
    labels[0] = 0
    assert check_instances(labels, HERE_FILE).sum() == 240


def test_maps_that_people_drew_pass(data_dir):
    files = [file for name in ("monuseg13", "consep27") for file in (data_dir / name).glob("*.labels.png")]
    if not files:
        pytest.skip("neither monuseg13 nor consep27: set DIRL_DATA to the folder that holds them")
    for file in files:
        read_map(file)


def _png(width, height, data=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _npz(shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i4", "fortran_order": False, "shape": shape})
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("labels.npy", header.getvalue())
    return out.getvalue()


def _tiff(side):
    """A TIFF of a few bytes whose header claims so many pixels along each side."""
    tags = {256: side, 257: side, 258: 32, 259: 1, 262: 1, 273: 8, 277: 1, 278: side, 279: 8}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 16) + bytes(8) + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.png", _png(60000, 60000)), ("a.npz", _npz((60000, 60000))), ("a.tif", _tiff(60000))],
)
def test_a_small_file_that_claims_a_gigantic_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=r"a map may have 1,000,000,000|is too large to be read"):
        read_map(tmp_path / name)
    assert LARGEST_PX == 1_000_000_000


def test_an_image_without_nuclei_has_no_classes(tmp_path):
    np.savez(tmp_path / "a.npz", labels=np.zeros((5, 7), np.int32), classes=np.array([]))
    labels, classes = read_map(tmp_path / "a.npz")
    assert labels.shape == (5, 7) and not labels.any() and classes == {}


def _saved(folder, kind, labels):
    file = folder / f"a.{kind}"
    if kind == "png":
        Image.fromarray(labels.astype(np.uint16)).save(file)
    elif kind == "tif":
        tifffile.imwrite(file, labels, compression="zlib")
    else:
        np.savez_compressed(file, labels=labels, classes=np.array(["a", "b"])[np.unique(labels)[1:] % 2])
    return file


@pytest.mark.parametrize("kind", ["png", "tif", "npz"])
@given(data=st.data())
@settings(max_examples=60)
def test_damage_is_our_error_or_does_no_harm(kind, data, truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp(kind)
    file = _saved(folder, kind, truth[:64, :64])
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(
        content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    )
    try:
        labels, _ = read_map(file)
    except DirlError as error:
        assert str(file) in str(error)
    else:
        assert labels.dtype == np.int32 and labels.ndim == 2


@pytest.mark.parametrize(
    "text", ["[1]", "{", "null", '{"a": "b"}', "[" * 100_000, '"' + "\\ud800" + '"'], ids=range(6)
)
def test_damaged_classes_are_named(tmp_path, text):
    Image.fromarray(np.eye(8, dtype=np.uint16)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError, match=r"a\.json: names no classes"):
        read_map(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("labels", "remedy"),
    [
        (np.zeros((1, 8, 8), np.int32), r"labels\[0\]"),
        (np.zeros((2, 8, 8), np.int32), r"labels\[0\]"),
        (np.zeros((8, 8), np.float32), "16-bit PNG"),
        (np.zeros((8, 8), bool), "16-bit PNG"),
    ],
)
def test_other_shapes_and_types_are_refused(labels, remedy):
    with pytest.raises(ConfigError, match=rf"one integer per pixel, not .*{remedy}"):
        check_instances(labels, HERE_FILE)
