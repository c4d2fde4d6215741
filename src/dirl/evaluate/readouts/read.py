"""The readouts of an encoder: ways to make one vector of a tile from its tokens, in one forward pass."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, resize
from dirl.features.pooling import all_tokens
from dirl.prior.coverage import coverage
from dirl.prior.regions import RegionSet, TileNuclei, tissue_rings
from dirl.prior.tokens import pool
from dirl.store.dataset import CellStore, TileStore

Floats = NDArray[np.float32]

CLASS, MEAN, BOTH, REGIONS = "class", "mean", "class+mean", "regions"
BATCH = 32
RING_UM = 4.0
"""Width of the ring around nuclei, as in ``dense.ring_um``."""

NOTHING = np.zeros(0, np.int32)


def read_readouts(
    store: TileStore,
    cells: CellStore | None,
    numbers: NDArray[np.int64],
    encoder: LoadedEncoder,
    advance: Callable[[int], None],
) -> dict[str, Floats]:
    """Read all readouts of t tiles, by name.

    ``class`` is the class token ``(t, d)``. ``mean`` is the mean of the patch tokens ``(t, d)``.
    ``class+mean`` joins both ``(t, 2 d)``. ``regions`` joins the means over nuclei, the ring around them and
    the rest of the tissue ``(t, 3 d)``. A region that a tile lacks has zeros. Without a class token or
    without cells the readouts that need them are missing.
    """
    regions = tissue_rings(RING_UM / store.spec.mpp)
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(numbers), BATCH):
        batch = numbers[start : start + BATCH].tolist()
        images = torch.from_numpy(np.stack([store.image(i) for i in batch])).permute(0, 3, 1, 2)
        prefix, patches = all_tokens(encoder, images)
        mean = patches.mean(1)
        found = {MEAN: mean}
        if prefix.shape[1]:
            found |= {CLASS: prefix[:, 0], BOTH: torch.cat([prefix[:, 0], mean], dim=1)}
        if cells is not None:
            share = _shares(store, cells, regions, batch, encoder).to(patches.device)
            found[REGIONS] = pool(patches, share).flatten(1)
        for name, values in found.items():
            parts.setdefault(name, []).append(values.cpu())
        advance(len(batch))
    order = (CLASS, MEAN, BOTH, REGIONS)
    return {name: torch.cat(parts[name]).numpy() for name in order if name in parts}


def _shares(
    store: TileStore, cells: CellStore, regions: RegionSet, batch: list[int], encoder: LoadedEncoder
) -> Tensor:
    """Shares of each token that nuclei, ring and rest cover: (b, 3, n)."""
    slides = store.slide_ids
    ids = []
    for i in batch:
        stored = cells.regions(i)
        nuclei = TileNuclei((stored == 1).astype(np.uint8), stored > 0, NOTHING, str(slides[i]))
        ids.append(np.asarray(regions.draw(nuclei), np.uint8))
    resized = resize(encoder, torch.from_numpy(np.stack(ids)))
    return coverage(resized, regions.count, encoder.patch_px).flatten(2)


def equal_width(values: NDArray[np.floating], width: int) -> Floats:
    """Centre features (t, d) and keep their `width` main directions, found without labels: (t, width)."""
    width = min(width, *values.shape)
    kept = PCA(width, svd_solver="full").fit_transform(values.astype(np.float64))
    return np.asarray(kept, np.float32)
