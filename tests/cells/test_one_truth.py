"""The same fact is the same in every output: how many nuclei there are, and that a resolution is doubtful."""

import shutil

import numpy as np
import pytest

from dirl.cells import run
from dirl.cells.export import cells_export
from dirl.cells.report.run import cells_report
from dirl.cells.run import cells
from dirl.config import CellsConfig, TileConfig
from dirl.core.card import read_card
from dirl.core.files import read_json
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import write

NAME = "hematoxylin"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Tiles that leave out a part of the slide, so that some nuclei lie in none."""
    folder = tmp_path_factory.mktemp("truth")
    write(folder / "slide.tiff", 3, (448, 448))
    tile([folder / "slide.tiff"], folder / "store", TileConfig(size_px=128, min_tissue=0.6), quiet=True)
    return folder / "store"


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def test_every_output_has_the_same_number_of_nuclei(store, tmp_path):
    found = cells(store, CellsConfig(), quiet=True)
    ids = {int(i) for row in range(len(found)) for i in np.unique(found.labels(row)) if i}
    counts = read_card(found.path).counts
    assert counts["nuclei"] == len(ids) > 20
    assert counts["nuclei"] + counts["nuclei_outside_tiles"] == len(found.nuclei("slide"))
    assert counts["nuclei_outside_tiles"] > 0
    summary = read_json(found.path / "summary.json")
    assert summary["all"]["nuclei"] == summary["slides"]["slide"]["nuclei"] == len(ids)
    report = cells_report(store, tmp_path / "report", tiles=1, quiet=True).summary
    assert report.cells[NAME].all.nuclei == len(ids)
    assert f"{len(ids):,}" in (tmp_path / "report" / "report.html").read_text()
    pytest.importorskip("shapely")
    assert cells_export(store, tmp_path / "export", quiet=True).summary.all.nuclei == len(ids)


def test_a_doubtful_resolution_is_in_every_output(store, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "blob_sizes", lambda images, mpp: [9.0])
    with pytest.warns(
        UserWarning, match=r"slide: objects that look like nuclei .* if the stated 0\.5 µm/px is wrong"
    ):
        found = cells(store, CellsConfig(), quiet=True)
    doubts = read_card(found.path).counts["resolution_warnings"]
    assert list(doubts) == ["slide"] and "would fit better" in doubts["slide"]
    assert read_json(found.path / "summary.json")["resolution_warnings"] == doubts
    report = cells_report(store, tmp_path / "report", tiles=1, quiet=True).summary
    assert report.cells[NAME].resolution_warnings == doubts
    assert read_card(tmp_path / "report").counts["resolution_warnings"] == {NAME: doubts}
    assert doubts["slide"] in (tmp_path / "report" / "report.html").read_text()


def test_a_sound_resolution_is_not_spoken_of(store):
    found = cells(TileStore.open(store).path, CellsConfig(), quiet=True)
    assert "resolution_warnings" not in read_card(found.path).counts
    assert read_json(found.path / "summary.json")["resolution_warnings"] == {}
