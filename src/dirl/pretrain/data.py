"""The number of steps of a run, the order of its tiles, and the code that reads them.

Workers only read and decode.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dirl.config import PretrainRecipe
from dirl.core.errors import ConfigError, StoreError
from dirl.core.randomness import permute
from dirl.core.signals import TO_ALL, as_read, begin_reader, starting
from dirl.prior.source import RegionSource
from dirl.store.dataset import TileStore

Batch = tuple[Tensor, Tensor | None, Tensor]


@dataclass(frozen=True)
class Schedule:
    """The length of a run, and its steps.

    A step has `batch` tiles over all devices. Each device cuts its share into `parts`, run one after the
    other. `log_every` and `save_every` count the steps between two rows of the log and between two
    checkpoints.
    """

    seed: int
    steps: int
    batch: int
    parts: int
    log_every: int
    save_every: int

    def tiles_at_once(self, ranks: int) -> int:
        """Tiles that a device works on at a time."""
        return self.batch // (self.parts * ranks)


def schedule_of(recipe: PretrainRecipe) -> Schedule:
    """Take the schedule from a recipe."""
    return Schedule(
        seed=recipe.seed,
        steps=recipe.steps,
        batch=recipe.batch,
        parts=recipe.optimiser.accumulate,
        log_every=recipe.log_every_steps,
        save_every=recipe.checkpoint_every_steps,
    )


class TileBatches(Dataset[Batch]):
    """Reads whole batches of tiles and, with a source, their region ids."""

    def __init__(self, store: TileStore, source: RegionSource | None) -> None:
        self.store, self.source = store, source

    def __len__(self) -> int:
        return len(self.store)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> Batch:
        """Read the tiles of ``(position, index)`` pairs.

        The result is images uint8 ``(b, 3, h, w)``, ids ``(b, h, w)`` from the source or None, and positions
        int64 ``(b,)``.
        """
        images = torch.from_numpy(np.stack([self.store.image(index) for _, index in keys]))
        ids = None
        if self.source is not None:
            ids = torch.from_numpy(np.stack([self.source.ids(index) for _, index in keys]))
        positions = torch.tensor([position for position, _ in keys])
        return images.permute(0, 3, 1, 2).contiguous(), ids, positions


class CountedOrder:
    """Batches of ``(position, index)`` from step `start` onwards, computed and never stored.

    An epoch's order is a permutation of the tiles, keyed by `seed`. Its last, incomplete batch is left out,
    so that no tile is twice in a batch. `batch` counts the tiles of a step over all ranks, of which `rank`
    yields its part.

    With `centres` (t,), position n of the run is drawn from centre n mod (number of centres). Each centre has
    epochs of its own. A tile is twice in a batch only if its centre has too few tiles.
    """

    def __init__(
        self,
        indices: NDArray[np.int64],
        batch: int,
        steps: int,
        seed: int,
        *,
        start: int = 0,
        rank: int = 0,
        ranks: int = 1,
        centres: NDArray[np.str_] | None = None,
    ) -> None:
        if len(indices) < batch:
            raise ConfigError(
                f"{len(indices)} tiles to train on, but a batch of {batch}",
                where="batch",
                remedy="make batch smaller, or tile more slides",
            )
        if batch % ranks:
            raise ConfigError(
                f"a batch of {batch} cannot be shared by {ranks} devices",
                where="batch",
                remedy="use a multiple",
            )
        self.groups = [indices] if centres is None else _by_centre(indices, centres)
        self.batch, self.steps, self.seed = batch, steps, seed
        self.start, self.rank, self.ranks = start, rank, ranks

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        mine = self.batch // self.ranks
        count = len(self.groups)
        for step in range(self.start, self.steps):
            place = self.rank * mine + np.arange(mine)
            positions = step * self.batch + place
            drawn = np.empty(mine, np.int64)
            # Like dealing cards: place n of the batch is place n // count of group n % count.
            for number in range(min(count, mine)):
                hand = slice(number, None, count)
                drawn[hand] = self._draw(step, int(positions[number]) % count, place[hand] // count)
            yield list(zip(positions.tolist(), drawn.tolist(), strict=True))

    def _draw(self, step: int, number: int, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Tiles of a group at places of its part of a step's batch."""
        group = self.groups[number]
        part = -(-self.batch // len(self.groups))
        epoch, within = divmod(step, max(1, len(group) // part))
        key = (self.seed * 1_000_003 + epoch) * len(self.groups) + number
        return group[permute(key, (within * part + place) % len(group), len(group))]


class CountedLoader(DataLoader[Batch]):
    """A loader whose position follows from the step alone, so that it needs no state to resume."""

    def __iter__(self) -> Any:
        """Start the processes that read. Only the loader ends them, not a signal."""
        with starting(TO_ALL):
            return super().__iter__()

    def state_dict(self) -> dict[str, int]:
        """Return nothing: the order is computed from the step."""
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Ignore it: see `state_dict`."""


def make_loader(
    dataset: TileBatches, order: Iterable[list[tuple[int, int]]], workers: int, pin: bool
) -> CountedLoader:
    """Make a loader of batches of ``(position, index)``, as `CountedOrder` yields them."""
    return CountedLoader(
        dataset,
        batch_sampler=order,
        num_workers=workers,
        collate_fn=as_read,
        pin_memory=pin,
        multiprocessing_context="spawn" if workers else None,
        persistent_workers=workers > 0,
        worker_init_fn=begin_reader,
    )


@dataclass(frozen=True)
class Loaders:
    """Makes the loader of a run's tiles, those of `indices`, from a step onwards.

    With `centres`, one for each tile of the store, all centres are drawn equally often. `workers` is the
    number of processes that read; 0 reads in the training process. `pin` puts batches into pinned memory, for
    a GPU.
    """

    batches: TileBatches
    schedule: Schedule
    indices: NDArray[np.int64]
    centres: NDArray[np.str_] | None
    workers: int
    pin: bool

    def __call__(self, start: int, rank: int, ranks: int) -> CountedLoader:
        """Make the loader of one rank that begins at step `start`."""
        schedule = self.schedule
        order = CountedOrder(
            self.indices,
            schedule.batch // schedule.parts,
            schedule.steps * schedule.parts,
            schedule.seed,
            start=start * schedule.parts,
            rank=rank,
            ranks=ranks,
            centres=None if self.centres is None else self.centres[self.indices],
        )
        return make_loader(self.batches, order, self.workers, self.pin)


def _by_centre(indices: NDArray[np.int64], centres: NDArray[np.str_]) -> list[NDArray[np.int64]]:
    """Tiles of each centre."""
    if (centres == "").any():
        raise StoreError(
            f"the index names no centre for {(centres == '').sum()} of {len(centres)} tiles",
            where="balance: centre",
            remedy="add a column centre to the cohort's table: `dirl tile --cohort CSV`",
        )
    return [indices[centres == centre] for centre in np.unique(centres)]
