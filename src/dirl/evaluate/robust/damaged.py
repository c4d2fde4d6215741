"""Features of tiles under every condition, one file for each, so that an interrupted run can continue."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dirl.core.errors import EncoderError
from dirl.core.progress import bar
from dirl.core.signals import TO_ALL, as_read, begin_reader, starting
from dirl.encoders.loading import LoadedEncoder, embed_images
from dirl.evaluate.robust.conditions import Condition
from dirl.features.baselines import Baseline
from dirl.features.feature_files import read_rows, write_rows
from dirl.store.colour import colour_histogram
from dirl.store.dataset import TileStore

Batch = tuple[Tensor, NDArray[np.float32] | None]
Sets = dict[str, NDArray[np.float32]]

AGAIN = "remove it and run the same command again"


def embed_damaged(
    encoders: Mapping[str, LoadedEncoder],
    store: TileStore,
    chosen: NDArray[np.int64],
    conditions: Sequence[Condition],
    out: Path,
    *,
    colours: bool,
    seed: int,
    batch: int,
    workers: int,
    quiet: bool,
) -> dict[Condition, Sets]:
    """Embed the chosen tiles under every condition; those with a file in `out` are read from it.

    Returns by condition the features (t, d) of each encoder by its name, and the colour histogram if asked.

    Raises
    ------
    EncoderError
        If features are not finite.
    """
    names = (*encoders, *([Baseline.COLOUR_HISTOGRAM] if colours else []))
    files = {condition: out / f"{condition}.h5" for condition in conditions}
    missing = {condition: path for condition, path in files.items() if not path.exists()}
    with bar("Embedding damaged tiles", len(missing) * len(chosen), quiet=quiet) as advance:
        for condition, path in missing.items():
            rows: dict[str, list[NDArray[Any]]] = {name: [] for name in names}
            loader = _loader(store, chosen, condition, colours, seed, batch, workers)
            with starting(TO_ALL):
                batches = iter(loader)
            for images, histograms in batches:
                for name, encoder in encoders.items():
                    rows[name].append(embed_images(encoder, images).cpu().numpy())
                if histograms is not None:
                    rows[Baseline.COLOUR_HISTOGRAM].append(histograms)
                advance(len(images))
            sets = {name: np.concatenate(values) for name, values in rows.items()}
            for name, encoder in encoders.items():
                if not np.isfinite(sets[name]).all():
                    reason = f"gives features that are not finite under {condition}"
                    raise EncoderError(reason, where=encoder.spec, remedy="its weights are damaged")
            write_rows(path, sets)
    return {condition: read_rows(path, names, AGAIN) for condition, path in files.items()}


class _Damaged(Dataset[Batch]):
    """Reads batches of tiles under one condition and, if asked, their colour histograms."""

    def __init__(self, store: TileStore, condition: Condition, colours: bool, seed: int) -> None:
        self.store, self.condition, self.colours, self.seed = store, condition, colours, seed

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        ids = self.store.index["tile_id"].take(indices).to_pylist()
        images = [
            self.condition.apply(self.store.image(i), tile, self.seed)
            for i, tile in zip(indices, ids, strict=True)
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        return pixels, np.stack([colour_histogram(image) for image in images]) if self.colours else None


def _loader(
    store: TileStore,
    chosen: NDArray[np.int64],
    condition: Condition,
    colours: bool,
    seed: int,
    batch: int,
    workers: int,
) -> DataLoader[Batch]:
    parts = [chosen[i : i + batch].tolist() for i in range(0, len(chosen), batch)]
    return DataLoader(
        _Damaged(store, condition, colours, seed),
        batch_sampler=parts,
        num_workers=workers,
        collate_fn=as_read,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=begin_reader,
    )
