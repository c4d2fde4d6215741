"""Numbers of a store's cells: by hand, the same in tiles of any overlap, and outliers among slides."""

import math
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dirl.cells.quality.statistics import (
    SlideStatistics,
    TileSums,
    slide_statistics,
    statistics_file,
    total_of,
)
from dirl.cells.report.outliers import find_outliers
from dirl.cells.report.run import cells_report
from dirl.core.card import note_change
from dirl.core.errors import StoreError
from dirl.core.files import read_json
from dirl.prior.coverage import pixel_share, prior_contrast
from dirl.store.dataset import TileStore


def table(labels, mpp, classes=None):
    ids, pixels = np.unique(labels[labels > 0], return_counts=True)
    return {
        "id": ids.tolist(),
        "area_um2": (pixels * mpp**2).tolist(),
        "touches_border": [False] * len(ids),
        "class": classes or [None] * len(ids),
    }


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int32, (64, 64), elements=st.integers(0, 3), fill=st.just(0)))
def test_prior_contrast_is_the_one_that_training_logs(labels):
    made = TileSums(0.5)
    made.add(labels, np.ones((64, 64), np.uint8))
    found = made.statistics(table(labels, 0.5)).prior_contrast
    for um, patch in ((4, 8), (8, 16), (16, 32)):
        expected = float(prior_contrast(pixel_share(torch.tensor(labels > 0), patch).double()))
        assert (found[str(um)] is None and math.isnan(expected)) or found[str(um)] == pytest.approx(
            expected, abs=1e-5
        )


def test_numbers_by_hand():
    labels = np.zeros((40, 40), np.int32)
    labels[:10, :10], labels[20:25, 20:40] = 1, 2
    regions = np.where(labels > 0, 1, 0).astype(np.uint8)
    regions[:, :20][labels[:, :20] == 0] = 2
    made = TileSums(0.5)
    made.add(labels, regions)
    made.add(np.zeros((40, 40), np.int32), np.zeros((40, 40), np.uint8))
    found = made.statistics(table(labels, 0.5, ["a", None]))
    assert (found.tiles, found.tiles_without_nuclei, found.nuclei) == (2, 1, 2)
    assert found.tissue_mm2 == pytest.approx((800 + 100) * 0.25e-6)
    assert found.nuclei_per_mm2 == pytest.approx(2 / found.tissue_mm2)
    assert found.coverage == pytest.approx(200 / 900)
    assert found.area_um2["p50"] == 25 and found.classes == {"a": 1}
    assert found.area_histogram[2] == 2 and found.coverage_histogram[4] == 1


@pytest.mark.parametrize("step", [8, 16, 32])
def test_overlapping_tiles_count_a_nucleus_as_often_as_its_tissue(step):
    labels = np.zeros((96, 96), np.int32)
    labels[30:40, 28:36], labels[60:66, 50:70] = 1, 2
    made = TileSums(0.5)
    for y in range(0, 65, step):
        for x in range(0, 65, step):
            part = labels[y : y + 32, x : x + 32]
            made.add(part, np.ones(part.shape, np.uint8))
    found = made.statistics(table(labels, 0.5))
    seen = sum(
        (labels[y : y + 32, x : x + 32] == i).sum() / (labels == i).sum()
        for y in range(0, 65, step) for x in range(0, 65, step) for i in (1, 2)
    )  # fmt: skip
    assert found.nuclei_per_mm2 == pytest.approx(seen / found.tissue_mm2)
    if step == 32:
        assert seen == pytest.approx(2)


def slide(density=5000.0, area=30.0, coverage=0.2, empty=0, nuclei=100):
    return SlideStatistics(
        tiles=50,
        tiles_without_nuclei=empty,
        nuclei=nuclei,
        tissue_mm2=1,
        nuclei_mm2=0.1,
        classes={},
        nuclei_per_mm2=density,
        coverage=coverage,
        area_um2={"p50": area},
        prior_contrast={},
        tokens={},
        area_histogram=[],
        coverage_histogram=[],
    )


def test_outliers_are_found_and_other_slides_are_not():
    slides = {f"s{i}": slide(density=5000 + 150 * i) for i in range(8)}
    assert find_outliers("x", slides) == []
    slides["bad"] = slide(density=300, coverage=0.01, empty=30)
    (found,) = find_outliers("x", slides)
    assert found.slide == "bad" and "300 nuclei per mm²" in found.what
    assert "60 % of its tiles have no nucleus" in found.what
    none = {"none": slide(None, None, 0.0, 50, 0), "one": slide()}
    assert [each.what for each in find_outliers("x", none)] == ["no nuclei at all"]


def test_statistics_of_cells_that_were_made_without_are_worked_out_and_kept(small_store, tmp_path):
    store = TileStore.open(shutil.copytree(small_store, tmp_path / "store"))
    cells = store.cells("hematoxylin")
    assert not statistics_file(store.path, "hematoxylin", "slide").exists()
    found = slide_statistics(store, cells, "slide")
    assert found.tiles == len(store)
    assert found == slide_statistics(store, cells, "slide")
    together = total_of([found, found])
    assert together.nuclei == 2 * found.nuclei
    assert together.coverage == pytest.approx(found.coverage)
    assert together.prior_contrast == pytest.approx(found.prior_contrast)


def test_a_report_holds_everything_in_one_file(small_store, tmp_path):
    store = shutil.copytree(small_store, tmp_path / "store")
    shutil.copytree(store / "cells" / "hematoxylin", store / "cells" / "another<b>")
    summary = cells_report(store, tmp_path / "out", tiles=1, quiet=True).summary
    assert list(summary.cells) == ["another<b>", "hematoxylin"]
    assert read_json(tmp_path / "out" / "summary.json") == summary.to_json()
    text = (tmp_path / "out" / "report.html").read_text()
    assert "another<b>" not in text and "another&lt;b&gt;" in text
    assert "http://" not in text.replace("http://www.w3.org", "") and 'src="data:image/jpeg' in text
    again = cells_report(store, tmp_path / "out", tiles=1, quiet=True).summary
    assert again == summary
    index = store / "cells" / "another<b>" / "index.parquet"
    pq.write_table(pq.read_table(index).slice(1), index)
    note_change(index.parent, "index.parquet")
    part = cells_report(store, tmp_path / "part", quiet=True).summary
    assert list(part.cells) == ["hematoxylin"]
    assert (
        "Left out: no cells of another&lt;b&gt; for 1 of" in (tmp_path / "part" / "report.html").read_text()
    )
    one = cells_report(store, tmp_path / "one", cells=["hematoxylin"], quiet=True).summary
    assert list(one.cells) == ["hematoxylin"]
    with pytest.raises(StoreError, match="made with other settings"):
        cells_report(store, tmp_path / "out", tiles=3, quiet=True)
    with pytest.raises(StoreError, match="no cells of nobody"):
        cells_report(store, tmp_path / "none", cells=["nobody"], quiet=True)
    shutil.rmtree(store / "cells")
    with pytest.raises(StoreError, match="has no cells"):
        cells_report(store, tmp_path / "none", quiet=True)
