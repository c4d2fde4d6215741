"""Order and reading: counted, complete, the same for any number of ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dirl.errors import StoreError
from dirl.pretrain.data import CountedOrder, TileBatches, held_out, shuffled_partners
from dirl.store.dataset import TileStore


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
    assert list(CountedOrder(np.arange(21), 4, 10, seed, start)) == whole[start:]


def test_ranks_share_each_batch():
    whole = list(CountedOrder(np.arange(21), 4, 10, 3))
    halves = [list(CountedOrder(np.arange(21), 4, 10, 3, 0, rank, 2)) for rank in (0, 1)]
    assert [a + b for a, b in zip(*halves, strict=True)] == whole


def test_epochs_differ():
    batches = list(CountedOrder(np.arange(64), 32, 4, 0))
    assert [i for _, i in batches[0]] != [i for _, i in batches[2]]


def test_a_batch_that_cannot_be_filled_is_refused():
    with pytest.raises(StoreError, match="7 tiles to train on, but a batch of 8"):
        CountedOrder(np.arange(7), 8, 1, 0)
    with pytest.raises(StoreError, match="cannot be shared by 3 devices"):
        CountedOrder(np.arange(70), 8, 1, 0, 0, 0, 3)


def test_held_out_depends_on_the_tile_alone_and_has_the_share():
    names = [f"slide_{i}" for i in range(4000)]
    chosen = held_out(names, 0.2, 5)
    assert abs(chosen.mean() - 0.2) < 0.02
    assert (held_out(names[::-1], 0.2, 5) == chosen[::-1]).all()
    assert not held_out(names, 0.0, 5).any()


def test_batches_hold_what_the_store_holds(small_store):
    store = TileStore.open(small_store)
    cells = store.cells("hematoxylin")
    partner = shuffled_partners(store, 0)
    images, regions, positions = TileBatches(store, cells, partner).__getitems__([(7, 2), (8, 0)])
    assert images.shape == (2, 3, 64, 64) and positions.tolist() == [7, 8]
    np.testing.assert_array_equal(images[0].permute(1, 2, 0).numpy(), store.image(2))
    np.testing.assert_array_equal(regions[1].numpy(), cells.regions(int(partner[0])))
    assert (partner != np.arange(len(store))).all()
    assert TileBatches(store, None, partner).__getitems__([(0, 0)])[1] is None
