"""Which tile is trained on when, and how it gets there. Workers only read and decode."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dirl.errors import StoreError
from dirl.randomness import derangement, hashes, permute
from dirl.store.dataset import CellStore, TileStore

Batch = tuple[Tensor, Tensor | None, Tensor]


def held_out(tile_ids: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Say which tiles are never trained on: a function of (seed, tile id) alone.

    Parameters
    ----------
    tile_ids
        Ids of ``t`` tiles.
    share
        Share of all tiles to hold out.
    seed
        Key of the choice.

    Returns
    -------
    ndarray of shape (t,)
    """
    # Compared as integers: 2**64 itself does not fit a uint64.
    return hashes(seed, tile_ids).astype(np.float64) < share * 2.0**64


class TileBatches(Dataset[Batch]):
    """Reads whole batches of tiles and, where asked, their region ids.

    Parameters
    ----------
    store
        The tiles.
    cells
        Their cells, or None where no region ids are wanted.
    partner
        For each tile of the store, the tile whose region ids it is given.
    """

    def __init__(self, store: TileStore, cells: CellStore | None, partner: NDArray[np.int64]) -> None:
        self.store, self.cells, self.partner = store, cells, partner

    def __len__(self) -> int:
        return len(self.store)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Read the tiles of ``(position, index)`` pairs.

        Returns
        -------
        tuple
            Images uint8 ``(b, 3, h, w)``, region ids uint8 ``(b, h, w)`` or None, positions int64 ``(b,)``.
        """
        images = torch.from_numpy(np.stack([self.store.image(index) for _, index in keys]))
        regions = None
        if self.cells is not None:
            regions = torch.from_numpy(np.stack([self.cells.regions(int(self.partner[i])) for _, i in keys]))
        positions = torch.tensor([position for position, _ in keys])
        return images.permute(0, 3, 1, 2).contiguous(), regions, positions


class CountedOrder:
    """Batches of ``(position, index)`` from a step onwards, computed and never stored.

    An epoch's order is a keyed permutation of the tiles; its last, incomplete batch is left out, so that
    no tile is met twice in a batch.

    Parameters
    ----------
    indices
        Tiles to train on.
    batch
        Tiles per step over all ranks.
    steps
        Steps of the whole run.
    seed
        Key of the order.
    start
        Step to begin at.
    rank, ranks
        Which part of each batch to yield.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        batch: int,
        steps: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        if len(indices) < batch:
            raise StoreError(
                f"{len(indices)} tiles to train on, but a batch of {batch}",
                where="batch",
                remedy="pass a smaller --set batch=N, or tile more slides",
            )
        if batch % ranks:
            raise StoreError(
                f"a batch of {batch} cannot be shared by {ranks} devices",
                where="batch",
                remedy="use a multiple",
            )
        self.indices, self.batch, self.steps, self.seed = indices, batch, steps, seed
        self.start, self.rank, self.ranks = start, rank, ranks

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = len(self.indices) // self.batch
        mine = self.batch // self.ranks
        for step in range(self.start, self.steps):
            epoch, place = divmod(step, per_epoch)
            first = self.rank * mine
            within = np.arange(place * self.batch + first, place * self.batch + first + mine)
            order = permute(self.seed * 1_000_003 + epoch, within, len(self.indices))
            positions = step * self.batch + first + np.arange(mine)
            yield list(zip(positions.tolist(), self.indices[order].tolist(), strict=True))


class CountedLoader(DataLoader[Batch]):
    """A loader whose place is given by the step alone, which is what resuming it needs."""

    def state_dict(self) -> dict[str, int]:
        """Return nothing: the order is computed from the step."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Take nothing: see `state_dict`."""


def make_loader(dataset: TileBatches, order: CountedOrder, workers: int, pin: bool) -> CountedLoader:
    """Make the loader of a run."""
    return CountedLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
    )


def shuffled_partners(store: TileStore, seed: int) -> NDArray[np.int64]:
    """Give each tile the regions of another tile of its slide, once and for all (control ``shuffled``)."""
    return derangement(seed, list(store.tile_ids), list(store.slide_ids))


def _as_it_is(batch: Any) -> Any:
    return batch
