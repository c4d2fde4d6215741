"""Order and reading: counted, complete, the same for any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirl.core.errors import ConfigError, StoreError
from dirl.pretrain.data import CountedOrder, TileBatches
from dirl.prior.dense_term import make_dense_term
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out
from tests.known import known


@given(tiles=st.integers(8, 60), batch=st.sampled_from([2, 4, 8]), seed=st.integers(0, 1000))
def test_an_epoch_meets_every_tile_at_most_once_and_leaves_out_less_than_a_batch(tiles, batch, seed):
    indices = np.arange(100, 100 + tiles)
    per_epoch = tiles // batch
    batches = list(CountedOrder(indices, batch, 2 * per_epoch, seed))
    first = [i for b in batches[:per_epoch] for _, i in b]
    assert len(set(first)) == len(first) == per_epoch * batch
    assert set(first) <= set(indices.tolist())
    positions = [p for b in batches for p, _ in b]
    assert positions == list(range(2 * per_epoch * batch))


@given(start=st.integers(0, 9), seed=st.integers(0, 1000))
def test_starting_later_continues_the_same_order(start, seed):
    whole = list(CountedOrder(np.arange(21), 4, 10, seed))
    assert list(CountedOrder(np.arange(21), 4, 10, seed, start=start)) == whole[start:]


def test_ranks_share_each_batch():
    whole = list(CountedOrder(np.arange(21), 4, 10, 3))
    halves = [list(CountedOrder(np.arange(21), 4, 10, 3, rank=rank, ranks=2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_epochs_differ():
    batches = list(CountedOrder(np.arange(64), 32, 4, 0))
    assert [i for _, i in batches[0]] != [i for _, i in batches[2]]


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(ConfigError, match="7 tiles to train on, but a batch of 8"):
        CountedOrder(np.arange(7), 8, 1, 0)
    with pytest.raises(ConfigError, match="cannot be shared by 3 devices"):
        CountedOrder(np.arange(70), 8, 1, 0, ranks=3)


def test_held_out_depends_on_the_tile_alone_and_has_the_share():
    names = [f"slide_{i}" for i in range(4000)]
    chosen = held_out(names, 0.2, 5)
    assert abs(chosen.mean() - 0.2) < 0.02
    assert (held_out(names[::-1], 0.2, 5) == chosen[::-1]).all()
    assert not held_out(names, 0.0, 5).any()


def test_batches_hold_what_the_store_holds(small_store, recipe):
    store = TileStore.open(small_store)
    source = known(make_dense_term(recipe.dense, store, recipe.cells, recipe.seed)).source
    images, ids, positions = TileBatches(store, source).__getitems__([(7, 2), (8, 0)])
    assert images.shape == (2, 3, 64, 64) and positions.tolist() == [7, 8]
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), store.image(2))
    np.testing.assert_array_equal(known(ids)[1].numpy(), source.ids(0))
    assert TileBatches(store, None).__getitems__([(0, 0)])[1] is None


@st.composite
def centred(draw):
    """Centres of 1 to 60 tiles each, in no order, and a batch that they fill."""
    sizes = draw(st.lists(st.integers(1, 60), min_size=1, max_size=6))
    centres = np.repeat([f"centre {i}" for i in range(len(sizes))], sizes)
    centres = np.random.default_rng(draw(st.integers(0, 99))).permutation(centres)
    return centres, draw(st.integers(1, min(12, len(centres))))


@given(centred(), st.integers(0, 1000))
def test_balanced_batches_draw_every_centre_equally_often(drawn, seed):
    centres, batch = drawn
    indices = np.arange(500, 500 + len(centres))
    batches = list(CountedOrder(indices, batch, 9, seed, centres=centres))
    chosen = np.array([[i - 500 for _, i in b] for b in batches])
    counts = np.unique(centres[chosen], return_counts=True)[1]
    assert np.ptp(counts) <= 1 and len(counts) == min(len(set(centres)), 9 * batch)
    part = -(-batch // len(set(centres)))
    for row in chosen:
        within = np.unique(centres[row], return_counts=True)[1]
        assert np.ptp(within) <= 1
        # No tile twice in a batch, but where its centre has fewer than it must give.
        often = np.bincount(row)
        assert all((centres == centres[tile]).sum() < part for tile in np.flatnonzero(often > 1))
    assert [p for b in batches for p, _ in b] == list(range(9 * batch))


@given(centred(), st.integers(0, 6), st.integers(0, 1000))
def test_a_balanced_order_starts_anywhere_and_is_shared_by_ranks(drawn, start, seed):
    centres, _ = drawn
    indices = np.arange(len(centres) * 2)
    centres = np.tile(centres, 2)
    whole = list(CountedOrder(indices, 2, 7, seed, centres=centres))
    assert list(CountedOrder(indices, 2, 7, seed, start=start, centres=centres)) == whole[start:]
    halves = [list(CountedOrder(indices, 2, 7, seed, rank=rank, ranks=2, centres=centres)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_a_centre_goes_through_all_its_tiles_before_one_comes_again():
    centres = np.repeat(["a", "b"], [8, 80])
    batches = list(CountedOrder(np.arange(88), 8, 6, 0, centres=centres))
    for first in (0, 2, 4):
        of_a = [i for b in batches[first : first + 2] for _, i in b if i < 8]
        assert sorted(of_a) == list(range(8))
    of_b = [i for b in batches for _, i in b if i >= 8]
    assert len(set(of_b)) == len(of_b) == 24


def test_one_centre_is_no_centre():
    plain = list(CountedOrder(np.arange(21), 4, 10, 3))
    assert list(CountedOrder(np.arange(21), 4, 10, 3, centres=np.array(["a"] * 21))) == plain


def test_centres_that_are_not_known_cannot_be_balanced():
    with pytest.raises(StoreError, match=r"no centre for 4 of 8 tiles.*--cohort"):
        CountedOrder(np.arange(8), 4, 1, 0, centres=np.array(["a", ""] * 4))
