"""The quality of a prior: counted from labels by hand, logged by a run, and warned of where it is none."""

import shutil
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from dirl.config import DenseConfig, ViewsConfig, make
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.pretrain.read_run import read_metrics
from dirl.pretrain.run import pretrain
from dirl.prior.dense_term import make_dense_term
from dirl.prior.metrics import PriorMetrics
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore
from dirl.views.batch import make_views
from tests.pretrain.test_run import with_

WHOLE = ViewsConfig(size_px=64, crop_area=(1.0, 1.0), crop_aspect=(1.0, 1.0))


@pytest.fixture(scope="module")
def tiles(small_store, tmp_path_factory):
    """The small store, with cells that are none, and cells that are everywhere, of two classes."""
    path = tmp_path_factory.mktemp("quality") / "store"
    shutil.copytree(small_store, path)
    store = TileStore.open(path)
    for name, labels in (("empty", np.zeros((64, 64), int)), ("full", np.ones((64, 64), int))):
        count = int(labels.max())
        nuclei: dict[str, list[Any]] = {column: [0.0] * count for column in ("x", "y")}
        nuclei |= {"id": [1] * count, "area_um2": [1024.0] * count, "touches_border": [True] * count}
        nuclei["class"] = ["tumour"] * count
        items = ((tile_id, labels, labels) for tile_id in store.tile_ids.tolist())
        card = claim(cells_dir(path, name), new_card("cells", {"name": name}))
        write_cells(path, name, "slide", items, nuclei)
        merge_cells(path, name)
        finish(cells_dir(path, name), card, {})
    return store


def term(tiles, cells="hematoxylin", **dense):
    return make_dense_term(make(DenseConfig, dense), tiles, cells, 0)


def measured(tiles, dense):
    """Metrics of views that are whole tiles, where a region is present by a single pixel."""
    ids = torch.from_numpy(np.stack([dense.source.ids(i) for i in range(len(tiles))]))
    images, samples = torch.zeros(len(tiles), 3, 64, 64, dtype=torch.uint8), np.arange(len(tiles))
    views = make_views(images, samples, WHOLE, seed=0)
    (coverage,) = dense.coverage(ids, views, samples, 8)
    return dense.make_metrics()(views[0], coverage, coverage.sum(dim=(-2, -1)) > 0, tiles.spec.mpp)


def test_nuclei_and_absent_regions_are_those_of_the_labels(tiles):
    dense = term(tiles)
    cells = tiles.cells("hematoxylin")
    labels = np.stack([cells.labels(i) for i in range(len(tiles))])
    areas = cells.nuclei("slide")["area_um2"].to_numpy()
    found = measured(tiles, dense)
    assert found["prior/area"] == pytest.approx((labels > 0).mean())
    assert found["prior/absent/nuclei"] == pytest.approx(1 - (labels > 0).any((1, 2)).mean())
    assert found["prior/absent/rest"] == pytest.approx(1 - (labels == 0).any((1, 2)).mean())
    per_view = found["prior/nuclei_per_view"].item()
    assert per_view == pytest.approx((labels > 0).sum((1, 2)).mean() * 0.25 / areas.mean(), rel=1e-5)
    # Nuclei that are cut off count in part: there are fewer than one sees, but not many.
    seen = np.mean([len(np.unique(one[one > 0])) for one in labels])
    assert 0.5 * seen < per_view < seen


@pytest.mark.parametrize(
    ("dense", "expected"),
    [
        ({}, PriorMetrics(("nuclei", "rest"), 1, True, 1024.0)),
        ({"control": "shuffled"}, PriorMetrics(("nuclei", "rest"), 1, True, 1024.0)),
        ({"regions": "tissue"}, PriorMetrics(("nuclei", "ring", "rest"), 1, True, 1024.0)),
        ({"regions": "classes"}, PriorMetrics(("tumour", "rest"), 1, True, 1024.0)),
        ({"match": "overlap"}, PriorMetrics(("nuclei", "rest"), 1)),
        ({"match": "instance", "instances": 3}, PriorMetrics((), 3)),
        ({"control": "tissue-only"}, PriorMetrics(("tissue",))),
        ({"control": "grid"}, PriorMetrics(())),
        ({"regions": "tissue", "control": "matched-grid"}, PriorMetrics(())),
        ({"control": "one"}, PriorMetrics(())),
        ({"regions": "grid"}, PriorMetrics(())),
    ],
)
def test_what_is_measured_of_a_prior(tiles, dense, expected):
    assert term(tiles, "full", **dense).make_metrics() == expected


def test_a_store_without_nuclei_has_no_mean_area(tiles):
    assert term(tiles, "empty").make_metrics().nucleus_um2 is None
    found = measured(tiles, term(tiles, "empty"))
    assert found["prior/area"] == 0 and found["prior/absent/nuclei"] == 1
    assert "prior/nuclei_per_view" not in found


def test_full_labels_fill_the_view(tiles):
    found = measured(tiles, term(tiles, "full"))
    assert found["prior/area"] == 1 and found["prior/absent/nuclei"] == 0 and found["prior/absent/rest"] == 1
    assert found["prior/nuclei_per_view"] == pytest.approx(1)  # one of 32 × 32 µm


def test_nuclei_of_several_regions_are_absent_together():
    present = torch.tensor([[[True, False, True], [False, True, False], [False, False, True]]])
    unused: Any = None  # neither the views nor what covers their tokens is looked at
    found = PriorMetrics(("a", "b", "rest"), 2)(unused, unused, present, 0.5)
    assert {k: round(float(v), 3) for k, v in found.items()} == {
        "prior/present": 0.444,
        "prior/absent/a": 0.667,
        "prior/absent/b": 0.667,
        "prior/absent/rest": 0.333,
        "prior/absent/nuclei": 0.333,
    }


def test_a_run_logs_its_prior_and_does_not_warn_of_a_sound_one(tiles, recipe, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = pretrain(with_(recipe, steps=3), tiles.path, tmp_path / "run", device="cpu", quiet=True)
    for row in read_metrics(run.path / "metrics.csv"):
        assert 0 <= row["prior/absent/nuclei"] < 0.9 and row["prior/nuclei_per_view"] > 0
        shares = [row["prior/absent/nuclei"], row["prior/absent/rest"]]
        assert row["prior/present"] == pytest.approx(1 - np.mean(shares), abs=1e-5)


@pytest.mark.parametrize(
    ("cells", "dense", "reason"),
    [
        ("empty", {"match": "instance"}, r"100% of the views show no nuclei.*pictures of the cells 'empty'"),
        ("full", {}, r"nuclei cover 100% of the views.*pictures of the cells 'full'"),
    ],
)
def test_a_run_warns_once_of_a_prior_that_tells_nothing(tiles, recipe, tmp_path, cells, dense, reason):
    mine = with_(recipe, steps=4, cells=cells, dense=dense)
    with pytest.warns(UserWarning, match=reason) as said:
        pretrain(mine, tiles.path, tmp_path / "run", device="cpu", quiet=True)
    assert len(said) == 1
