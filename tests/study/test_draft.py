"""`dirl init`: what it writes can be used as it is."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dirl import synthetic
from dirl.config import TileConfig, load_recipe
from dirl.core.errors import ConfigError, SlideError
from dirl.slides.cohort_check import cohort_check
from dirl.store.build import tile
from dirl.study.draft import draft
from dirl.study.matrix import expand, load_study


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    for name in ("a, left.tif", "b.tif"):
        synthetic.write(folder / name, seed=1, size_px=(512, 512))
    return folder


def test_the_files_can_be_used_at_once(slides, tmp_path):
    made = draft(slides, tmp_path / "new", quiet=True)
    assert not made.failures and made.mpp == 0.5
    assert [one.slide_id for one in cohort_check(made.cohort, quiet=True).slides] == ["a, left", "b"]
    assert load_recipe(made.recipe).dense.regions == "tissue"
    study = load_study(made.study)
    assert study.recipe == str(made.recipe) and len(expand(study)) == 9
    store = tile([], tmp_path / "store", TileConfig(size_px=128), cohort=made.cohort, quiet=True)
    assert abs(len(store) - made.tiles) <= 0.5 * made.tiles


def test_paths_are_relative_to_the_table(slides, tmp_path):
    made = draft(slides, tmp_path, quiet=True)
    rows = list(csv.DictReader(made.cohort.read_text().splitlines()))
    assert not any(Path(row["path"]).is_absolute() for row in rows)
    assert all((tmp_path / row["path"]).exists() for row in rows)


def test_nothing_is_replaced(slides, tmp_path):
    (tmp_path / "study.yaml").write_text("mine")
    with pytest.raises(ConfigError, match=r"study\.yaml: exists"):
        draft(slides, tmp_path, quiet=True)
    assert [path.name for path in tmp_path.iterdir()] == ["study.yaml"]


def test_a_slide_that_cannot_be_used_is_named_and_left_out(slides, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "good.tif").symlink_to(slides / "b.tif")
    (folder / "bad.svs").write_bytes(b"no slide")
    made = draft(folder, tmp_path / "out", quiet=True)
    assert list(made.failures) == ["bad"] and len(made.slides) == 1
    assert "bad" not in made.cohort.read_text()
    (folder / "good.tif").unlink()
    with pytest.raises(SlideError, match=r"bad\.svs"):
        draft(folder, tmp_path / "none", quiet=True)
    assert not (tmp_path / "none").exists()


def test_a_stated_resolution_is_that_of_slides_whose_files_give_none(slides, tmp_path):
    folder = tmp_path / "slides"
    folder.mkdir()
    (folder / "known.tif").symlink_to(slides / "b.tif")
    Image.fromarray(np.full((600, 600, 3), (200, 120, 180), np.uint8)).save(folder / "plain.tif")
    assert list(draft(folder, tmp_path / "without", quiet=True).failures) == ["plain"]
    made = draft(folder, tmp_path / "with", mpp_override=1.0, quiet=True)
    assert not made.failures and made.mpp == 1.0
    rows = csv.DictReader(made.cohort.read_text().splitlines())
    assert {Path(row["path"]).stem: row["mpp"] for row in rows} == {"known": "", "plain": "1"}


def test_a_folder_without_slides_is_refused(tmp_path):
    with pytest.raises(SlideError, match="holds no slide"):
        draft(tmp_path, tmp_path / "out", quiet=True)
