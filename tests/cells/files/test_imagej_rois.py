"""Zips of ImageJ's ROIs, as StarDist's export_imagej_rois writes them."""

import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("shapely")

from dirl.cells.files.imagej_rois import ImageJRois
from dirl.cells.registry import load_segmenter
from dirl.cells.source import PixelGrid
from dirl.core.errors import ConfigError, DirlError


def roi(points, *, subpixel=True, kind=0):
    """A ROI of points (n, 2), x and y from the image's corner."""
    whole = np.round(points).astype(int)
    (left, top), (right, bottom) = whole.min(0), whole.max(0)
    head = bytearray(64)
    head[:4] = b"Iout"
    struct.pack_into(">hBxhhhhH", head, 4, 227, kind, top, left, bottom, right, len(points))
    struct.pack_into(">H", head, 50, 128 * subpixel)
    body = (whole - (left, top)).T.astype(">i2").tobytes()
    return bytes(head) + body + (np.asarray(points).T.astype(">f4").tobytes() if subpixel else b"")


def star(x, y, radius, corners=32):
    angle = np.arange(corners) * 2 * np.pi / corners
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1)


def zipped(folder, *rois, name="slide_rois.zip"):
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for i, one in enumerate(rois, 1):
            archive.writestr(f"001_{i:03d}.roi", one)
    return folder / name


@pytest.mark.parametrize(("mpp", "scale"), [(None, 1), (0.25, 0.5), (1.0, 2)])
@pytest.mark.parametrize("subpixel", [True, False])
def test_stars_come_back_where_they_are(tmp_path, mpp, scale, subpixel):
    middles = [(20.5, 30.25), (60.0, 30.0), (61.0, 70.5)]
    file = zipped(tmp_path, *(roi(star(x, y, 8), subpixel=subpixel) for x, y in middles))
    found = ImageJRois(str(tmp_path), mpp=mpp).read(file, (round(100 * scale),) * 2, 0.5)
    assert found.ids.tolist() == [1, 2, 3] and found.classes == [None] * 3 and not found.notes
    within = 1e-3 if subpixel else 0.6
    assert np.abs(found.x / scale - [x for x, _ in middles]).max() < within
    assert np.abs(found.y / scale - [y for _, y in middles]).max() < within
    assert np.allclose(
        found.area_px / scale**2, 16 * np.sin(np.pi / 16) * 64, rtol=0.002 if subpixel else 0.1
    )
    cut = found.cut(PixelGrid(0, 0, 100, scale))
    assert [cut[int(y), int(x)] for x, y in middles] == [1, 2, 3]


def test_other_kinds_are_left_out_and_counted(tmp_path):
    flat = roi(np.array([[1, 1], [9, 1], [5, 1]]))
    file = zipped(tmp_path, roi(star(20, 20, 6), kind=10), roi(star(50, 50, 6), kind=7), flat, b"Iout", b"")
    found = ImageJRois(str(file)).read(file, (99, 99), 0.5)
    assert found.ids.tolist() == [2]
    assert found.notes == {"ROIs that are not polygons, left out": 4}
    with pytest.raises(ConfigError, match="has ROIs, but none is a polygon"):
        ImageJRois(str(file)).read(zipped(tmp_path, flat, name="flat.zip"), (99, 99), 0.5)
    empty = zipped(tmp_path, name="empty.zip")
    assert len(ImageJRois(str(file)).read(empty, (99, 99), 0.5).ids) == 0


@pytest.mark.filterwarnings("ignore:.*is unusual for nuclei")
@given(data=st.data())
def test_damage_is_our_error_or_does_no_harm(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rois")
    one = bytearray(roi(star(20, 20, 6, 8)))
    for _ in range(data.draw(st.integers(1, 4))):
        one[data.draw(st.integers(0, len(one) - 1))] = data.draw(st.integers(0, 255))
    file = zipped(folder, bytes(one[: data.draw(st.integers(0, len(one)))]), roi(star(50, 50, 6)))
    content = bytearray(file.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        found = ImageJRois(str(folder)).read(file, (99, 99), 0.5)
    except DirlError as error:
        assert str(file) in str(error)
    else:
        assert np.isfinite(found.area_px).all()


def test_a_zip_of_something_else_and_one_that_claims_too_much_are_refused(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "nothing")
    with pytest.raises(ConfigError, match="holds no ROIs"):
        ImageJRois(str(tmp_path)).read(tmp_path / "a.zip", (9, 9), 0.5)
    monkeypatch.setattr("dirl.cells.files.imagej_rois.MOST_BYTES", 100)
    with pytest.raises(ConfigError, match="has more than"):
        ImageJRois(str(tmp_path)).read(zipped(tmp_path, roi(star(20, 20, 6))), (99, 99), 0.5)


def test_stardist_with_a_folder_reads_its_rois(tmp_path):
    assert isinstance(load_segmenter(f"stardist:{tmp_path}"), ImageJRois)
    assert isinstance(load_segmenter(f"stardist:{zipped(tmp_path)}"), ImageJRois)
