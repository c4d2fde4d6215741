"""Cells of a store: found on the slide, cut by the tiles, whole or absent."""

import errno
import shutil
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
import pytest
from PIL import Image

from dirl.cells import run
from dirl.cells.base import NucleiMask
from dirl.cells.registry import cells_name, load_segmenter
from dirl.cells.run import cells
from dirl.cells.scoring.metrics import score_nuclei
from dirl.cells.segmenters.hematoxylin import Hematoxylin
from dirl.cells.windows import TileBoxes, WindowedLabels
from dirl.config import CellsConfig, TileConfig
from dirl.core.errors import ConfigError, PartlyFailedError, SlideError, StoreError
from dirl.slides.reading import open_slide, read_box
from dirl.slides.tissue import tissue_pixels
from dirl.store.build import tile
from dirl.store.cells_writer import cells_finished, write_cells
from dirl.store.dataset import TileStore
from dirl.synthetic import write

SIZE = 128
CONFIG = CellsConfig(window_px=256, halo_px=48)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    """Folder with two small slides."""
    folder = tmp_path_factory.mktemp("slides")
    write(folder / "one.tiff", 1, (640, 512))
    write(folder / "two.tiff", 2, (512, 640))
    return folder


@pytest.fixture(scope="module")
def made(slides, tmp_path_factory):
    """Store of the slides with cells; tests do not change it."""
    out = tmp_path_factory.mktemp("stores") / "store"
    tile([slides], out, TileConfig(size_px=SIZE, min_tissue=0.2), quiet=True)
    cells(out, CONFIG, quiet=True)
    return TileStore.open(out)


@pytest.fixture
def store(made, tmp_path):
    """Copy of the store that a test may change."""
    shutil.copytree(made.path, tmp_path / "store")
    return TileStore.open(tmp_path / "store")


def canvas(store, found, slide_id):
    """The slide's labels, put together from its tiles."""
    width, height = store.slides[slide_id].size_px
    whole = np.zeros((height, width), np.int32)
    for i in np.flatnonzero(store.slide_ids == slide_id):
        x, y = (store.index[name][int(i)].as_py() for name in ("x", "y"))
        whole[y : y + SIZE, x : x + SIZE] = found.labels(int(i))
    return whole


def test_tiles_hold_the_labels_of_the_slide(made):
    found = made.cells("hematoxylin")
    for slide_id in made.slides:
        nuclei = found.nuclei(slide_id)
        whole = canvas(made, found, slide_id)
        ids, areas = np.unique(whole[whole > 0], return_counts=True)
        known = dict(zip(nuclei["id"].to_pylist(), nuclei["area_um2"].to_pylist(), strict=True))
        assert len(known) == len(nuclei) > 50
        assert set(ids.tolist()) <= known.keys()
        # A nucleus is cut off where no tile lies; none is larger in the tiles than in the slide.
        assert all(
            area * 0.25 <= known[i] + 1e-3 for i, area in zip(ids.tolist(), areas.tolist(), strict=True)
        )
        for i, x, y in zip(*(nuclei[name].to_pylist() for name in ("id", "x", "y")), strict=True):
            here = np.argwhere(whole == i)
            if len(here) * 0.25 == known[i]:
                assert np.allclose(here.mean(0) + 0.5, (y, x), atol=0.01)


def test_regions_are_nuclei_and_the_tissue_around_them(made):
    found = made.cells("hematoxylin")
    for i in range(len(made)):
        labels, regions = found.labels(i), found.regions(i)
        assert np.array_equal(regions == 1, labels > 0)
        tissue = tissue_pixels(made.image(i), 0.5, made.slides[str(made.slide_ids[i])].white)
        assert np.array_equal(regions == 2, tissue & (labels == 0))


def test_windows_do_not_cut_nuclei(made, store):
    """Segmented in small windows, the slide has the nuclei that it has in one piece."""
    whole = cells(store.path, CellsConfig(window_px=704, halo_px=48), overwrite=True, quiet=True)
    for slide_id in made.slides:
        a = canvas(made, made.cells("hematoxylin"), slide_id)
        b = canvas(store, whole, slide_id)
        assert score_nuclei(a, b).f1 > 0.99
        assert score_nuclei(a, b).dice > 0.99


def test_labels_lie_on_the_tiles_nuclei(made, slides):
    """The labels are where a segmentation of the tile itself has them, so nothing is shifted."""
    found = made.cells("hematoxylin")
    agree = []
    for i in [i for i in range(0, len(made), 3) if found.labels(i).any()]:
        rgb = made.image(i)
        (mask,) = Hematoxylin().fit([rgb], 0.5)([rgb])
        agree.append([(np.roll(mask.labels, s, 1) > 0)[found.labels(i) > 0].mean() for s in (-3, 0, 3)])
    left, still, right = np.mean(agree, axis=0)
    assert still > 0.8
    assert still > max(left, right)


@pytest.mark.parametrize("mpp", [0.25, 1.0])
def test_tiles_of_another_mpp_cut_by_nearest_neighbour(slides, made, tmp_path, mpp):
    out = tmp_path / "store"
    config = TileConfig(size_px=SIZE, mpp=mpp, min_tissue=0.1, allow_upsample=True)
    tile([slides / "one.tiff"], out, config, quiet=True)
    found = cells(out, CONFIG, quiet=True)
    store = TileStore.open(out)
    whole = canvas(made, made.cells("hematoxylin"), "one")
    step = mpp / 0.5
    for i in range(len(store)):
        x, y = (store.index[name][i].as_py() for name in ("x", "y"))
        rows, columns = (np.floor(start + (np.arange(SIZE) + 0.5) * step).astype(int) for start in (y, x))
        inside = rows[-1] < whole.shape[0] and columns[-1] < whole.shape[1]
        if inside and (seen := whole[rows[:, None], columns] > 0).mean() > 0.05:
            assert (found.labels(i) > 0)[seen].mean() > 0.85


def test_run_again_it_makes_only_what_is_missing(store):
    folder = store.path / "cells" / "hematoxylin"
    before = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tar")}
    (folder / "two.parquet").unlink()
    again = cells(store.path, CONFIG, quiet=True)
    after = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.tar")}
    assert after["one.tar"] == before["one.tar"]
    assert after["two.tar"] != before["two.tar"]
    assert again.card.counts["tiles"] == len(store)
    assert again.card.counts["slides"] == 2
    assert again.card.config["segmenter_digest"] == Hematoxylin().digest
    with Image.open(folder / "pictures" / "one.png") as picture:
        assert picture.width > 256


def test_other_settings_are_refused(store):
    with pytest.raises(StoreError, match=r"window_px 256 there, 512 now"):
        cells(store.path, CellsConfig(window_px=512, halo_px=48), quiet=True)


def test_workers_change_nothing(made, store):
    again = cells(store.path, CONFIG, workers=2, overwrite=True, quiet=True)
    found = made.cells("hematoxylin")
    assert all(np.array_equal(found.labels(i), again.labels(i)) for i in range(len(made)))


@dataclass(frozen=True)
class Noted:
    """Finds nothing, and notes where it was to compute and how many windows it got."""

    device: str = "auto"
    batch_size: int | None = None
    mpp: float = 0.5
    digest: str = "0123456789abcdef"

    def fit(self, samples, mpp):
        def find(windows):
            NOTES.append((self.device, self.batch_size, len(windows)))
            return [NucleiMask(np.zeros(w.shape[:2], np.int32), None, (), mpp, self.digest) for w in windows]

        return find


NOTES: list[tuple[str, int | None, int]] = []
NOTED = CellsConfig(segmenter=f"{__name__}:Noted", window_px=256, halo_px=48)


def test_device_and_batch_size_reach_the_segmenter_and_leave_its_cells_alone(store):
    NOTES.clear()
    cells(store.path, NOTED, device="cpu", batch=3, quiet=True)
    assert {note[:2] for note in NOTES} == {("cpu", 3)}
    NOTES.clear()
    cells(store.path, NOTED, batch=5, quiet=True)
    assert not NOTES


def test_progress_is_told_in_tiles_within_a_slide(store, monkeypatch):
    told = []

    @contextmanager
    def bar(what, total, quiet):
        told.append(-total)
        yield lambda steps=1, note="": told.append(steps)

    monkeypatch.setattr("dirl.cells.run.bar", bar)
    cells(store.path, NOTED, quiet=True)
    assert sum(told) == pytest.approx(0, abs=1e-6)
    assert sum(steps > 0 for steps in told) > 2 * len(store.slides)
    (store.path / "cells" / cells_name(NOTED) / "two.parquet").unlink()
    told.clear()
    cells(store.path, NOTED, quiet=True)
    assert sum(told) == pytest.approx(0, abs=1e-6)


def test_a_slide_that_is_gone_is_named_and_the_others_are_done(slides, tmp_path):
    here = tmp_path / "slides"
    shutil.copytree(slides, here)
    out = tmp_path / "store"
    tile([here], out, TileConfig(size_px=SIZE), quiet=True)
    (here / "two.tiff").unlink()
    with pytest.raises(PartlyFailedError, match=r"1 failed, 1 done:\n.*two.tiff: the slide is missing"):
        cells(out, CONFIG, quiet=True)
    with pytest.raises(StoreError, match="no cells of hematoxylin for"):
        TileStore.open(out).cells("hematoxylin")
    shutil.copy(slides / "two.tiff", here)
    assert len(cells(out, CONFIG, quiet=True)) == len(TileStore.open(out))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_a_file_that_cannot_be_read_stops_its_slide_and_a_full_disk_all(store, monkeypatch, number):
    for name in ("one", "two"):
        (store.path / "cells" / "hematoxylin" / f"{name}.parquet").unlink()

    def failing(root, cells, slide_id, *given):
        if slide_id == "one":
            raise OSError(number, "no", "file")
        return write_cells(root, cells, slide_id, *given)

    monkeypatch.setattr(run, "write_cells", failing)
    with pytest.raises(OSError if number == errno.ENOSPC else PartlyFailedError):
        cells(store.path, CONFIG, quiet=True)
    assert cells_finished(store.path, "hematoxylin", "two") == (number != errno.ENOSPC)


def test_the_only_slide_gone_is_the_error_itself(slides, tmp_path):
    shutil.copy(slides / "one.tiff", tmp_path / "one.tiff")
    tile([tmp_path / "one.tiff"], tmp_path / "store", TileConfig(size_px=SIZE), quiet=True)
    (tmp_path / "one.tiff").unlink()
    with pytest.raises(SlideError, match="the slide is missing"):
        cells(tmp_path / "store", CONFIG, quiet=True)


def test_ready_made_tiles_are_segmented_one_by_one(slides, tmp_path):
    slide = open_slide(slides / "one.tiff")
    for name, x in (("a", 64), ("b", 200)):
        (tmp_path / "tiles" / name).mkdir(parents=True)
        for k in range(3):
            rgb = read_box(slide, x, 100 + 120 * k, SIZE, SIZE, 0.5)
            Image.fromarray(rgb).save(tmp_path / "tiles" / name / f"{k}.png")
    slide.close()
    tile([tmp_path / "tiles"], tmp_path / "store", TileConfig(mpp_override=0.5), quiet=True)
    found = cells(tmp_path / "store", CONFIG, quiet=True)
    store = TileStore.open(tmp_path / "store")
    seen: set[tuple[str, int]] = set()
    for i, tile_id in enumerate(store.tile_ids.tolist()):
        labels, nuclei = found.labels(i), found.nuclei(str(store.slide_ids[i]))
        mine = nuclei.filter(pc.equal(nuclei["tile_id"], tile_id))
        assert set(mine["id"].to_pylist()) == set(np.unique(labels[labels > 0]).tolist())
        key = {(str(store.slide_ids[i]), number) for number in mine["id"].to_pylist()}
        assert not key & seen
        seen |= key
        edge = {*labels[[0, -1]].ravel().tolist(), *labels[:, [0, -1]].ravel().tolist()} - {0}
        assert set(mine.filter(mine["touches_border"])["id"].to_pylist()) == edge
    assert seen


def test_only_windows_that_tiles_touch_are_segmented(slides):
    slide = open_slide(slides / "one.tiff")
    labels = WindowedLabels(slide, 0.5, window_px=128, halo_px=16)
    near_the_middle = TileBoxes(np.array([150.0]), np.array([145.0]), 50.0)
    assert labels.rows(near_the_middle) == [[], [1], [], []]
    at_a_border = TileBoxes(np.array([120.0]), np.array([145.0]), 100.0)
    assert labels.rows(at_a_border) == [[], [0, 1], [0, 1], []]
    slide.close()


def test_unknown_segmenters_are_named():
    with pytest.raises(ConfigError, match=r"there are: .*hematoxylin"):
        load_segmenter("hovernett")
    with pytest.raises(ConfigError, match="has no fit"):
        load_segmenter("math:pi")
