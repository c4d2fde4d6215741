"""The quality of a prior: counted from labels by hand, logged by a run, and warned of where it is none."""

import shutil
import warnings

import numpy as np
import pytest
import torch

from dirl.config import PretrainRecipe, ViewsConfig, make
from dirl.core.provenance import claim, finish, new_card
from dirl.pretrain.logs import read_metrics
from dirl.pretrain.run import pretrain
from dirl.prior.metrics import Known, know, prior_metrics
from dirl.prior.source import make_prior
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
        nuclei = {column: [0.0] * count for column in ("x", "y")}
        nuclei |= {"id": [1] * count, "area_um2": [1024.0] * count, "touches_border": [True] * count}
        nuclei["class"] = ["tumour"] * count
        items = ((tile_id, labels, labels) for tile_id in store.tile_ids.tolist())
        card = claim(cells_dir(path, name), new_card("cells", {"name": name}))
        write_cells(path, name, "slide", items, nuclei)
        merge_cells(path, name)
        finish(cells_dir(path, name), card, {})
    return store


def prior_of(tiles, cells="hematoxylin", **dense):
    return make_prior(make(PretrainRecipe, {"cells": cells, "dense": dense}), tiles)


def measured(tiles, prior):
    """Metrics of views that are whole tiles, where a region is present by a single pixel."""
    ids = torch.from_numpy(np.stack([prior.ids(i) for i in range(len(tiles))]))
    images = torch.zeros(len(tiles), 3, 64, 64, dtype=torch.uint8)
    (views,) = make_views(
        images, ids, np.arange(len(tiles)), WHOLE, seed=0, patch_px=8, n_regions=len(prior.names)
    )
    present = views.coverage.sum(dim=(-2, -1)) > 0
    return prior_metrics(know(prior), views, present, tiles.spec.mpp)


def test_nuclei_and_absent_regions_are_those_of_the_labels(tiles):
    prior = prior_of(tiles)
    cells = tiles.cells("hematoxylin")
    labels = np.stack([cells.labels(i) for i in range(len(tiles))])
    areas = cells.nuclei("slide")["area_um2"].to_numpy()
    found = measured(tiles, prior)
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
        ({}, Known(("nuclei", "rest"), 1, True, 1024.0)),
        ({"control": "shuffled"}, Known(("nuclei", "rest"), 1, True, 1024.0)),
        ({"regions": "tissue"}, Known(("nuclei", "ring", "rest"), 1, True, 1024.0)),
        ({"regions": "classes"}, Known(("tumour", "rest"), 1, True, 1024.0)),
        ({"match": "overlap"}, Known(("nuclei", "rest"), 1)),
        ({"match": "instance", "instances": 3}, Known((), 3)),
        ({"control": "tissue-only"}, Known(("tissue",))),
        ({"control": "grid"}, Known(())),
        ({"regions": "grid"}, Known(())),
    ],
)
def test_what_is_known_of_a_prior(tiles, dense, expected):
    assert know(prior_of(tiles, "full", **dense)) == expected


def test_a_store_without_nuclei_has_no_mean_area(tiles):
    assert know(prior_of(tiles, "empty")).nucleus_um2 is None
    found = measured(tiles, prior_of(tiles, "empty"))
    assert found["prior/area"] == 0 and found["prior/absent/nuclei"] == 1
    assert "prior/nuclei_per_view" not in found


def test_full_labels_fill_the_view(tiles):
    found = measured(tiles, prior_of(tiles, "full"))
    assert found["prior/area"] == 1 and found["prior/absent/nuclei"] == 0 and found["prior/absent/rest"] == 1
    assert found["prior/nuclei_per_view"] == pytest.approx(1)  # one of 32 × 32 µm


def test_nuclei_of_several_regions_are_absent_together():
    present = torch.tensor([[[True, False, True], [False, True, False], [False, False, True]]])
    found = prior_metrics(Known(("a", "b", "rest"), 2), None, present, 0.5)
    assert {k: round(float(v), 3) for k, v in found.items()} == {
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
