"""A training step as in a run, without Lightning's loop, on synthetic tiles."""

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dirl.cells.run import cells
from dirl.config import CellsConfig, PretrainRecipe, TileConfig
from dirl.objectives.base import load_objective
from dirl.pretrain.data import CountedLoader, CountedOrder, TileBatches, make_loader, schedule_of
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.plan import make_student
from dirl.prior.dense_term import make_dense_term
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.synthetic import write as draw

SLIDE_PX = (1024, 1024)
MPP = 0.5


@dataclass(frozen=True)
class Place:
    """Where and how the training is done: the device, its autocast, processes that read, steps of a turn."""

    device: str
    bf16: bool
    workers: int
    steps: int

    def autocast(self) -> torch.autocast:
        """Return the context of the forward pass."""
        return torch.autocast(self.device, torch.bfloat16, enabled=self.bf16)

    def wait(self) -> None:
        """Wait for what the device has been given to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()


@contextmanager
def drawn_tiles(size_px: int) -> Iterator[tuple[Path, Path]]:
    """Yield a store of tiles with cells, and a folder with the same tiles as JPEG files."""
    with TemporaryDirectory() as folder:
        slide, store, flat = (Path(folder) / name for name in ("0.tiff", "store", "flat"))
        draw(slide, 0, SLIDE_PX)
        tiles = tile([slide], store, TileConfig(mpp=MPP, size_px=size_px, stride_px=size_px // 8), quiet=True)
        cells(store, CellsConfig(), quiet=True)
        flat.mkdir()
        for i in range(len(tiles)):
            (flat / f"{i}.jpg").write_bytes(tiles.jpeg(i))
        yield store, flat


def _no_loader(start: int, rank: int, ranks: int) -> CountedLoader:
    raise AssertionError("no trainer asks for a loader here")


class Ours:
    """A pretraining module with its optimiser and its loader; a call trains ``place.steps`` steps."""

    def __init__(self, recipe: PretrainRecipe, store: Path, place: Place) -> None:
        tiles = TileStore.open(store)
        kind, settings = load_objective(recipe.objective)
        dense = make_dense_term(recipe.dense, tiles, recipe.cells, recipe.seed)
        view_px = recipe.views.size_px
        student = make_student(recipe.encoder, kind, settings, dense, view_px=view_px, seed=recipe.seed)
        self.module = PretrainModule(
            student,
            dense,
            recipe.views,
            recipe.optimiser,
            schedule_of(recipe),
            tiles.spec.mpp,
            _no_loader,
            recipe.entropy,
        ).to(place.device)
        self.module.on_fit_start()
        self.optimiser = self.module.configure_optimizers()["optimizer"]
        self.trained = [p for group in self.optimiser.param_groups for p in group["params"]]
        self.clip_norm, self.place = recipe.optimiser.clip_norm, place
        order = CountedOrder(np.arange(len(tiles)), recipe.batch, place.steps, recipe.seed)
        self.loader = make_loader(
            TileBatches(tiles, dense.source if dense else None), order, place.workers, place.device == "cuda"
        )

    def __call__(self) -> None:
        """Train a turn."""
        for batch in self.loader:
            self.module.on_train_batch_start(batch, 0)
            self.module.optimizer_step(0, 0, self.optimiser, self._closure(batch))
        self.place.wait()

    def flops(self) -> int:
        """Count what a step's forward and backward pass multiply and add (twice as many as products)."""
        batch = next(iter(self.loader))
        with FlopCounterMode(display=False) as counter:
            self._closure(batch)()
        return counter.get_total_flops()

    def _closure(self, batch: tuple[torch.Tensor | None, ...]) -> Callable[[], torch.Tensor]:
        there: Any = tuple(part if part is None else part.to(self.place.device) for part in batch)

        def closure() -> torch.Tensor:
            with self.place.autocast():
                loss = self.module.training_step(there, 0)
            self.optimiser.zero_grad()
            loss.backward()
            self.module.on_before_optimizer_step(self.optimiser)
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.trained, self.clip_norm)
            return loss

        return closure


def peak_memory(recipe: PretrainRecipe, store: Path, place: Place) -> dict[str, float]:
    """Train a turn and return the process's peak memory in MiB: to be called once, in a process of its own.

    On a CPU of the whole process, and, to be subtracted, what it held before; on a GPU what was allocated.
    """
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    Ours(recipe, store, place)()
    if place.device == "cuda":
        return {"peak_mib": torch.cuda.max_memory_allocated() / 2**20}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"peak_mib": peak, "of_which_python_and_packages_mib": before}
