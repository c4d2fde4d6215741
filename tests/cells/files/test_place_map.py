"""Label images on slides that QuPath crops, and areas that no nucleus has."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from dirl import synthetic
from dirl.cells.files.area_check import are_regions, check_areas
from dirl.cells.files.frames import AskedFrame, place_map
from dirl.cells.files.label_maps import LabelMaps
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError
from dirl.store.build import tile
from tests.scn_cases import write_scn

HERE_FILE = Path("a.png")
SIZE, CORNER, SCAN = (960, 900), (300, 240), (384, 320)


@pytest.fixture(scope="module")
def scanned(tmp_path_factory):
    """A store of a slide with bounds, and the true labels of its scan."""
    folder = tmp_path_factory.mktemp("places")
    drawn = synthetic.write(folder / "drawn.tif", seed=6, size_px=SCAN)
    (folder / "slides").mkdir()
    path = write_scn(folder / "slides" / "slide.scn", tifffile.imread(folder / "drawn.tif"), SIZE, CORNER)
    tile([path], folder / "store", TileConfig(size_px=96, min_tissue=0.05), quiet=True)
    return folder / "store", drawn.labels.astype(np.int32)


def taken(store, file, labels, **options):
    tifffile.imwrite(file, labels)
    spec = ",".join([f"labels:{file}", *(f"{name}={value}" for name, value in options.items())])
    return cells(store, CellsConfig(segmenter=spec, name=file.stem), quiet=True)


def test_a_map_of_what_qupath_shows_lies_where_qupath_shows_it(scanned, tmp_path):
    store, labels = scanned
    whole = np.zeros(SIZE[::-1], np.int32)
    whole[CORNER[1] : CORNER[1] + SCAN[1], CORNER[0] : CORNER[0] + SCAN[0]] = labels
    level0, crop = (taken(store, tmp_path / f"{n}.tif", m) for n, m in (("level0", whole), ("crop", labels)))
    stated = taken(store, tmp_path / "stated.tif", labels, frame="qupath")
    for other in (crop, stated):
        assert all(np.array_equal(level0.labels(i), other.labels(i)) for i in range(len(level0)))
        assert level0.nuclei("slide").to_pydict() == other.nuclei("slide").to_pydict()
    assert sum((level0.labels(i) > 0).sum() for i in range(len(level0))) > 1000
    shown = "frame qupath (offset 300, 240): the map has the proportions of the 384×320 px that QuPath shows"
    assert crop.card.counts["frames"] == {"slide": shown}
    with pytest.raises(ConfigError, match=r"384×320 px do not cover .* of which QuPath shows 384×320"):
        taken(store, tmp_path / "wrong.tif", labels, frame="level0")


@given(
    size=st.tuples(st.integers(400, 3000), st.integers(400, 3000)),
    shares=st.tuples(*[st.floats(0.2, 0.95)] * 2),
    step=st.sampled_from([1, 2, 4]),
    cropped=st.booleans(),
)
def test_the_proportions_of_a_map_decide_its_frame_or_it_is_refused(size, shares, step, cropped):
    shown = tuple(int(n * share) for n, share in zip(size, shares, strict=True))
    bounds = (7, 5, shown[0], shown[1])
    of = shown if cropped else size
    map_px = tuple(n // step for n in of)
    try:
        scale, frame = place_map(map_px, size, bounds, None, "auto", HERE_FILE)
    except ConfigError as error:
        assert "frame=level0 for the slide, or frame=qupath" in str(error)
        assume(False)
        return
    assert (scale, frame.name) == (step, "qupath" if cropped else "level0")
    assert frame.offset_px == ((7, 5) if cropped else (0, 0))
    frames: list[tuple[AskedFrame, bool]] = [("level0", not cropped), ("qupath", cropped)]
    for name, expected in frames:
        if expected:
            assert place_map(map_px, size, bounds, None, name, HERE_FILE)[0] == step


def test_a_map_that_fits_both_is_refused_unless_something_decides():
    bounds = (500, 300, 500, 400)
    with pytest.raises(
        ConfigError, match="may cover the slide of 1000×800 px, or the 500×400 px that QuPath"
    ):
        place_map((500, 400), (1000, 800), bounds, None, "auto", HERE_FILE)
    cases: list[tuple[float | None, AskedFrame, str]] = [
        (1.0, "auto", "qupath"),
        (2.0, "auto", "level0"),
        (None, "qupath", "qupath"),
        (None, "level0", "level0"),
    ]
    for scale, frame, expected in cases:
        assert place_map((500, 400), (1000, 800), bounds, scale, frame, HERE_FILE)[1].name == expected
    # Only one of them is a whole number of the slide's pixels.
    assert place_map((700, 560), (1000, 800), (9, 9, 700, 560), None, "auto", HERE_FILE)[1].name == "qupath"


def test_there_are_three_frames_of_maps(tmp_path):
    with pytest.raises(ConfigError, match="choose auto, qupath or level0"):
        LabelMaps(str(tmp_path), frame="openslide")  # type: ignore[arg-type]  # no frame is named so


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_maps_of_regions_are_refused_and_regions_among_nuclei_are_left_out(tmp_path, suffix):
    nuclei = np.zeros((800, 1000), np.uint16)
    for k in range(60):
        y, x = 40 + 70 * (k // 10), 30 + 90 * (k % 10)
        nuclei[y : y + 20, x : x + 20] = k + 1
    regions = np.zeros_like(nuclei)
    regions[100:700, 100:500], regions[100:700, 500:900] = 1, 2
    both = np.where((regions == 1) & (nuclei == 0), 9000, nuclei).astype(np.uint16)
    files = {name: tmp_path / f"{name}{suffix}" for name in ("regions", "both", "nuclei")}
    for name, labels in (("regions", regions), ("both", both), ("nuclei", nuclei)):
        Image.fromarray(labels).save(files[name])
    with pytest.raises(ConfigError, match=r"60,000 µm² at 0.5 µm/px: regions, not nuclei"):
        LabelMaps(str(files["regions"])).read(files["regions"], (1000, 800), 0.5)
    found = LabelMaps(str(files["both"])).read(files["both"], (1000, 800), 0.5)
    assert found.ids.tolist() == list(range(1, 61))
    assert found.notes == {"ids larger than any nucleus (over 5,000 µm²), left out": 1}
    with pytest.warns(UserWarning, match=r"the median area is 6.4e\+03|is unusual for nuclei"):
        LabelMaps(str(files["nuclei"])).read(files["nuclei"], (1000, 800), 2.0)


# Nuclei that stay below the limit of a region at any resolution, or that differ by a factor of ten at most.
AREAS = st.one_of(*(st.lists(st.floats(*ends), min_size=1, max_size=30) for ends in ((20, 312), (60, 600))))


@given(AREAS, st.integers(0, 5), st.floats(0.25, 4))
def test_no_nucleus_is_taken_for_a_region_at_a_wrong_resolution(areas, regions, wrong):
    """A resolution that is wrong by a factor of four changes areas by sixteen."""
    nuclei = np.array(areas) * wrong**2
    few = min(regions, len(areas))
    found = are_regions(np.concatenate([nuclei, np.full(few, 2e5)]))
    assert not found[: len(areas)].any() and found[len(areas) :].all()
    assert not are_regions(np.zeros(0)).size
    check_areas(np.full(3, 6.0), 0.5, HERE_FILE)  # of so few, the border may have cut each


def test_several_images_in_a_file_are_refused(tmp_path):
    labels = np.zeros((64, 64), np.uint16)
    labels[3:9, 3:9] = 1
    for other, refused in ((labels, True), (labels[::4, ::4], False)):
        file = tmp_path / f"{refused}.tif"
        tifffile.imwrite(file, labels)
        tifffile.imwrite(file, other, append=True)
        if refused:
            with pytest.raises(ConfigError, match="holds several images"):
                LabelMaps(str(file)).read(file, (64, 64), 0.5)
        else:
            assert len(LabelMaps(str(file)).read(file, (64, 64), 0.5).ids) == 1
