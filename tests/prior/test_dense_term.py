"""The dense term: region sets, controls and noise as a recipe asks for them, counted, and picklable."""

import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch

from dirl.config import DenseConfig, make
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError
from dirl.encoders.base import EncoderOutput
from dirl.prior.dense_term import make_dense_term
from dirl.prior.regions import cell_region_ids, ring_ids
from dirl.prior.source import shuffled_partners
from dirl.store.cells_writer import cells_dir, merge_cells, write_cells
from dirl.store.dataset import TileStore

CLASSES = ("immune", "tumour", None)


@pytest.fixture(scope="module")
def tiles(small_store, tmp_path_factory):
    """The small store with a second segmenter, which tells the nuclei apart by their id."""
    path = tmp_path_factory.mktemp("prior") / "store"
    shutil.copytree(small_store, path)
    store = TileStore.open(path)
    drawn = store.cells("hematoxylin")
    every = [drawn.labels(i) for i in range(len(store))]
    ids = sorted(set(np.concatenate([np.unique(labels) for labels in every]).tolist()) - {0})
    nuclei: dict[str, list[Any]] = {name: [0.0] * len(ids) for name in ("x", "y", "area_um2")}
    nuclei |= {"id": ids, "touches_border": [False] * len(ids), "class": [CLASSES[i % 3] for i in ids]}
    items = ((name, every[i], drawn.regions(i)) for i, name in enumerate(store.tile_ids.tolist()))
    folder = cells_dir(path, "typed")
    card = claim(folder, new_card("cells", {}))
    write_cells(path, "typed", "slide", items, nuclei)
    merge_cells(path, "typed")
    finish(folder, card, {})
    return store


def term(tiles, cells="typed", seed=0, **dense):
    return make_dense_term(make(DenseConfig, dense), tiles, cells, seed)


def prior(tiles, cells="typed", seed=0, **dense):
    """Return where the regions of tiles come from."""
    return term(tiles, cells, seed, **dense).source


def test_without_weight_there_is_no_dense_term_and_boxes_need_no_cells(tiles):
    assert term(tiles, cells="none", weight=0.0) is None
    for control in ("one", "twice"):
        whole = prior(tiles, cells="none", control=control)
        assert whole.cells is None and (whole.ids(0) == 1).all()
    assert prior(tiles, cells="none", regions="grid").ids(0).max() == 4


def test_cells_are_what_the_store_holds(tiles):
    made = prior(tiles)
    assert made.regions.names == ("nuclei", "rest") and made.count == 2
    for i in range(len(tiles)):
        assert np.array_equal(made.ids(i), tiles.cells("typed").regions(i))


def test_the_ring_has_its_width_in_micrometres(tiles):
    made = prior(tiles, regions="tissue", ring_um=3.0)
    assert made.regions.names == ("nuclei", "ring", "rest")
    cells = tiles.cells("typed")
    assert np.array_equal(made.ids(3), ring_ids(cells.labels(3), cells.regions(3) > 0, 6.0))


def test_classes_are_those_of_the_table_of_nuclei(tiles):
    made = prior(tiles, regions="classes")
    assert made.regions.names == ("immune", "tumour", "rest")
    cells = tiles.cells("typed")
    for i in range(len(tiles)):
        labels, ids = cells.labels(i), made.ids(i)
        # Of ids that divide by three the class is not named: they belong to no region.
        assert np.array_equal(ids[labels > 0], np.array([1, 2, 0])[labels[labels > 0] % 3])
        assert np.array_equal(ids == 3, cells.regions(i) == 2)


def test_a_segmenter_without_classes_is_named_with_the_remedy(tiles):
    with pytest.raises(StoreError, match=r"hematoxylin names no classes of nuclei.*cells or tissue"):
        prior(tiles, cells="hematoxylin", regions="classes")
    with pytest.raises(StoreError, match=r"no cells of other; there are cells of hematoxylin, typed"):
        prior(tiles, cells="other")


def test_instances_are_the_nuclei_of_the_tile(tiles):
    made = prior(tiles, match="instance", instances=3)
    assert made.regions.names == () and made.count == made.regions.nuclei == 3
    numbers, labels = made.ids(2), tiles.cells("typed").labels(2)
    assert numbers.dtype == np.int32
    assert np.array_equal(np.unique(numbers), np.arange(numbers.max() + 1))
    assert len(set(zip(numbers.ravel(), labels.ravel(), strict=True))) == numbers.max() + 1


def test_numbers_have_no_gaps_where_nuclei_are_dropped(tiles):
    made = prior(tiles, match="instance", noise={"kind": "drop", "strength": 0.5})
    all_of = prior(tiles, match="instance")
    numbers = [made.ids(i) for i in range(len(tiles))]
    assert all(np.array_equal(np.unique(n[n > 0]), np.arange(1, n.max() + 1)) for n in numbers)
    assert 0 < sum(n.max() for n in numbers) < sum(all_of.ids(i).max() for i in range(len(tiles)))


@pytest.mark.parametrize(("regions", "count"), [("cells", 2), ("tissue", 3), ("classes", 3)])
def test_the_control_grid_has_as_many_regions(tiles, regions, count):
    made = prior(tiles, regions=regions, control="grid")
    assert made.count == count
    assert np.array_equal(np.unique(made.ids(0)), np.arange(1, count + 1))


def test_the_matched_grid_is_two_boxes_above_one(tiles):
    made = prior(tiles, regions="tissue", control="matched-grid")
    ids, half = made.ids(0), tiles.spec.size_px // 2
    assert made.count == 3 and ids.shape == (2 * half, 2 * half)
    assert (ids[:half, :half] == 1).all() and (ids[:half, half:] == 2).all() and (ids[half:] == 3).all()


def test_tissue_only_is_all_but_glass(tiles):
    made = prior(tiles, control="tissue-only")
    assert made.regions.names == ("tissue",)
    assert np.array_equal(made.ids(1), tiles.cells("typed").regions(1) > 0)


@pytest.mark.parametrize("dense", [{}, {"regions": "classes"}, {"match": "instance"}, {"regions": "tissue"}])
def test_shuffled_is_the_prior_of_another_tile_of_the_slide(tiles, dense):
    partner = shuffled_partners(tiles, 0)
    own, shuffled = prior(tiles, **dense), prior(tiles, control="shuffled", **dense)
    assert (partner != np.arange(len(tiles))).all()
    for i in range(len(tiles)):
        assert np.array_equal(shuffled.ids(i), own.ids(int(partner[i])))
    everyone = prior(tiles, noise={"kind": "shuffle", "strength": 1.0}, **dense)
    assert np.array_equal(everyone.ids(0), shuffled.ids(0))


def test_moved_keeps_density_and_says_where_the_tissue_is(tiles):
    own, moved = prior(tiles), prior(tiles, control="moved")
    with_nuclei = [i for i in range(len(tiles)) if (own.ids(i) == 1).any()]
    assert len(with_nuclei) > 10
    for i in with_nuclei:
        before, after = own.ids(i), moved.ids(i)
        assert (after == 1).sum() == pytest.approx((before == 1).sum(), rel=0.05)
        assert not np.array_equal(before, after)
        assert (after[before > 0] > 0).all()
    one = with_nuclei[0]
    assert np.array_equal(moved.ids(one), prior(tiles, control="moved").ids(one))
    assert not np.array_equal(moved.ids(one), prior(tiles, seed=1, control="moved").ids(one))


@pytest.mark.parametrize("kind", ["drop", "dilate", "erode", "shift", "shuffle"])
def test_noise_of_strength_zero_is_none_and_more_is_some(tiles, kind):
    own = prior(tiles)
    none, some = (prior(tiles, noise={"kind": kind, "strength": s}) for s in (0.0, 1.0))
    assert all(np.array_equal(none.ids(i), own.ids(i)) for i in range(len(tiles)))
    assert any(not np.array_equal(some.ids(i), own.ids(i)) for i in range(len(tiles)))
    nuclei = [sum((p.ids(i) == 1).sum() for i in range(len(tiles))) for p in (own, some)]
    order = {"drop": nuclei[1] == 0, "dilate": nuclei[0] < nuclei[1], "erode": nuclei[0] > nuclei[1] > 0}
    assert order.get(kind, nuclei[1] == pytest.approx(nuclei[0], rel=0.1))
    assert np.array_equal(some.ids(0), prior(tiles, noise={"kind": kind, "strength": 1.0}).ids(0))


def test_noise_goes_through_every_set(tiles):
    for regions, draw in (("cells", cell_region_ids), ("tissue", lambda n, t: ring_ids(n, t, 8.0))):
        made = prior(tiles, regions=regions, noise={"kind": "drop", "strength": 1.0})
        tissue = tiles.cells("typed").regions(0) > 0
        assert np.array_equal(made.ids(0), draw(np.zeros_like(tissue, np.int32), tissue))
    made = prior(tiles, regions="classes", noise={"kind": "erode", "strength": 1.0})
    whole = prior(tiles, regions="classes")
    whole, left = (np.stack([p.ids(i) for i in range(len(tiles))]) for p in (whole, made))
    inside = np.isin(left, (1, 2))
    assert inside.any() and np.array_equal(left[inside], whole[inside])


@pytest.mark.parametrize("dense", [{"control": "shuffled"}, {"regions": "classes"}, {"control": "moved"}])
def test_other_processes_are_told_the_same(tiles, dense):
    made = prior(tiles, **dense)
    again = pickle.loads(pickle.dumps(made))
    assert again.regions.names == made.regions.names and np.array_equal(again.ids(1), made.ids(1))


def test_it_travels_to_spawned_workers(tiles):
    made = prior(tiles, control="shuffled")
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert np.array_equal(pool.submit(made.ids, 1).result(60), made.ids(1))


NOISE = {"kind": "drop", "strength": 0.5}


@pytest.mark.parametrize(
    ("dense", "reason"),
    [
        ({"match": "instance", "regions": "tissue"}, "goes with regions: cells, not tissue"),
        ({"match": "instance", "control": "grid"}, "control: grid does not have"),
        ({"match": "instance", "control": "one"}, "control: one does not have"),
        ({"regions": "grid", "control": "shuffled"}, "no cells for control: shuffled"),
        ({"regions": "grid", "noise": NOISE}, "no cells for noise"),
        ({"control": "moved", "noise": NOISE}, "control: moved does not have"),
        ({"control": "one", "noise": NOISE}, "control: one does not have"),
        ({"control": "matched-grid"}, "goes with regions: tissue, not cells; use control: grid"),
        ({"regions": "classes", "control": "matched-grid"}, "regions: tissue, not classes"),
        ({"regions": "grid", "grid_side": 16}, "more than 255 regions"),
        ({"noise": {"kind": "shuffle", "strength": 2}}, "a share of 2 to shuffle"),
    ],
)
def test_what_means_nothing_is_refused(tiles, dense, reason):
    with pytest.raises(ConfigError, match=reason):
        prior(tiles, **dense)
    assert term(tiles, weight=0.0, **dense) is None


@pytest.mark.parametrize(
    ("dense", "apart", "queries"),
    [
        ({}, 2, 2),
        ({"negatives": "regions"}, 1, 2),
        ({"match": "instance", "instances": 3}, 1, 1),
        ({"regions": "grid"}, 4, 4),
        ({"control": "tissue-only"}, 1, 1),
    ],
)
def test_regions_without_a_name_share_a_query_and_are_negatives_of_each_other(tiles, dense, apart, queries):
    made = term(tiles, extract="disentangle", **dense)
    assert made.loss_regions == apart
    assert made.make_block(8, 2).queries.shape == (queries, 8)


def test_controls_without_regions_have_no_block_and_ask_the_encoder_for_nothing(tiles):
    coverage = torch.ones(1, 1, 1, 2, 2)
    assert torch.equal(term(tiles).for_encoder(coverage), coverage)
    for control in ("one", "twice"):
        for extract in ("cls", "disentangle"):
            made = term(tiles, control=control, extract=extract)
            assert made.make_block(8, 2) is None and made.for_encoder(coverage) is None


def test_twice_is_the_class_token_and_one_the_mean_of_the_patch_tokens(tiles):
    output = EncoderOutput(torch.randn(3, 4), torch.randn(3, 9, 4), torch.zeros(3, 0, 4), (3, 3))
    coverage = [torch.ones(3, 1, 3, 3)]
    twice, one = (
        term(tiles, control=control).extract([output], coverage, None)[0] for control in ("twice", "one")
    )
    assert twice.present.all() and one.present.all()
    assert torch.equal(twice.tokens[:, 0], output.cls)
    torch.testing.assert_close(one.tokens[:, 0], output.patches.mean(dim=1))
