"""`dirl embed`: features of a store's tiles, beside what they are to be compared with."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dirl.card import claim, finish, new_card
from dirl.encoders.checkpoint import LoadedEncoder, load_encoder
from dirl.encoders.device import choose_device, choose_precision
from dirl.errors import ConfigError, EncoderError
from dirl.features.colour import colour_histogram, colour_statistics
from dirl.features.h5 import FLOORS, FLOORS_DIR, ROWS_DIR, STRINGS, Features, read_features, write_rows
from dirl.features.hash import perceptual_hash
from dirl.features.pooling import MODEL, POOLS, REGIONS, patch_tokens, pooled
from dirl.progress import bar
from dirl.randomness import hashes
from dirl.store.dataset import CellStore, TileStore
from dirl.store.select import check_share, select_tiles

Rows = dict[str, NDArray[Any]]
Batch = tuple[Tensor, Tensor | None, Rows]


def embed(
    encoder: str,
    store: Path,
    out: Path,
    *,
    pool: str = MODEL,
    cells: str = "hematoxylin",
    precision: str = "auto",
    select: float | None = None,
    tiles: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch: int = 64,
    workers: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Features:
    """Embed the tiles of a store, and the floors in the same pass.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    store
        A tile store.
    out
        Directory of the features; slides that it holds already are not done again.
    pool
        How tokens become a feature, the untrained encoder's too: see `pooled`.
    cells
        Whose cells give the regions, where they are pooled.
    precision
        Of the forward passes: see `choose_precision`. Features are float32 in any case.
    select
        Only this share of each slide's tiles, as `select_tiles` selects them; None is all.
    tiles
        At most so many tiles, spread over the slides in proportion; None is all.
    seed
        Of the selection, of that choice, and of the untrained encoder that is a floor.
    device
        ``auto``, or a torch device.
    batch
        Tiles in one forward pass.
    workers
        Processes that read tiles.
    overwrite
        Replace features of another encoder, store or choice.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there is no such pooling, precision or share.
    EncoderError
        If the encoder cannot be loaded, does not take these tiles, has no patch tokens to pool, or gives
        numbers that are not finite.
    StoreError
        If there is no such store, it lacks the cells, or `out` holds something else.
    """
    if select is not None:
        check_share(select)
    if pool not in POOLS:
        raise ConfigError("no such pooling", where=f"--pool {pool}", remedy=f"there are: {', '.join(POOLS)}")
    held = TileStore.open(store)
    found_cells = held.cells(cells) if pool == REGIONS else None
    chosen = choose_tiles(held, tiles, seed)
    where = choose_device(device)
    precision = choose_precision(precision, where)
    loaded = load_encoder(encoder, device=where)
    encoders = {"features": loaded, "untrained": loaded.randomised(seed)}
    if pool != MODEL:  # a model without patch tokens is refused before anything is written
        patch_tokens(loaded, torch.zeros(1, 3, held.spec.size_px, held.spec.size_px, dtype=torch.uint8))
    forward = partial(pooled, pool=pool, precision=precision)
    settings: dict[str, Any] = {
        "encoder": encoder,
        "pool": pool,
        "precision": precision,
        "tiles": tiles,
        "seed": seed,
    }
    inputs = {"store": held.digest, "encoder": loaded.digest}
    if select is not None:
        settings["select"] = select
    if found_cells is not None:
        settings["cells"], inputs["cells"] = cells, found_cells.card.digest
    card = claim(out, new_card("embed", settings, inputs), overwrite=overwrite)
    if card.finished:
        return read_features(out)

    counts: dict[str, Any] = {}
    if select is not None:
        selection = select_tiles(held, select, seed, workers=workers, quiet=quiet)
        chosen, counts["selected"] = choose_tiles(held, tiles, seed, selection.numbers), selection.counts()
    slides = held.slide_ids[chosen]
    parts = {slide: chosen[slides == slide] for slide in np.unique(slides).tolist()}
    missing = {slide: part for slide, part in parts.items() if not (out / ROWS_DIR / f"{slide}.h5").exists()}
    with bar("Embedding tiles", sum(map(len, missing.values())), quiet=quiet) as advance:
        for slide, rows in _embedded(
            encoders, _Tiles(held, found_cells), missing, batch, workers, forward, advance
        ):
            floors = {name: rows.pop(name) for name in FLOORS}
            # The features come last: a slide that has them is whole.
            write_rows(out / FLOORS_DIR / f"{slide}.h5", floors)
            described = _describe(held, missing[slide])
            write_rows(
                out / ROWS_DIR / f"{slide}.h5",
                rows | described,
                _attributes(held, slide, loaded, pool, precision),
            )
    finish(out, card, {"tiles": len(chosen), "slides": len(parts), **counts})
    return read_features(out)


def choose_tiles(
    store: TileStore, count: int | None, seed: int, among: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Choose tiles of a store, of each slide in proportion to what it has.

    Parameters
    ----------
    store
        The store.
    count
        How many; all where there are no more, or if None.
    seed
        Key of the choice, which else depends on the tiles' ids alone.
    among
        Numbers of the tiles to choose from, ascending; None is all.

    Returns
    -------
    ndarray of shape (t,)
        Their numbers, ascending.
    """
    among = np.arange(len(store)) if among is None else among
    if count is None or count >= len(among):
        return among
    if count < 1:
        raise ConfigError(f"cannot embed {count} tiles", where="--tiles", remedy="ask for at least 1")
    keys = hashes(seed, store.tile_ids[among].tolist())
    slide = np.unique(store.slide_ids[among], return_inverse=True)[1]
    order = np.lexsort((keys, slide))
    sizes = np.bincount(slide)
    first = np.cumsum(sizes) - sizes
    # How far down its slide's shuffled list a tile stands: the smallest so many are a share of each slide.
    depth = np.empty(len(among))
    depth[order] = (np.arange(len(among)) - first[slide[order]] + 0.5) / sizes[slide[order]]
    return among[np.sort(np.lexsort((keys, depth))[:count])]


class _Tiles(Dataset[Batch]):
    """Reads batches of tiles, their regions if there are cells, the colour floors, and a perceptual hash."""

    def __init__(self, store: TileStore, cells: CellStore | None) -> None:
        self.store, self.cells = store, cells

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        images = [self.store.image(i) for i in indices]
        seen: Rows = {
            "colour_statistics": np.stack([colour_statistics(image) for image in images]),
            "colour_histogram": np.stack([colour_histogram(image) for image in images]),
            "hash": np.array([perceptual_hash(image) for image in images]),
        }
        regions = None
        if self.cells is not None:
            regions = torch.from_numpy(np.stack([self.cells.regions(i) for i in indices]))
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), regions, seen


def _embedded(
    encoders: dict[str, LoadedEncoder],
    tiles: _Tiles,
    parts: dict[str, NDArray[np.int64]],
    batch: int,
    workers: int,
    forward: Callable[[LoadedEncoder, Tensor, Tensor | None], Tensor],
    advance: Callable[..., None],
) -> Iterator[tuple[str, Rows]]:
    """Yield slide by slide what is computed of its tiles."""
    batches = {
        slide: [part[i : i + batch].tolist() for i in range(0, len(part), batch)]
        for slide, part in parts.items()
    }
    loader = iter(
        DataLoader(
            tiles,
            batch_sampler=[indices for listed in batches.values() for indices in listed],
            num_workers=workers,
            collate_fn=_as_it_is,
            multiprocessing_context="spawn" if workers else None,
        )
    )
    for slide, listed in batches.items():
        found: dict[str, list[NDArray[Any]]] = {}
        for _ in listed:
            images, regions, seen = next(loader)
            computed = {name: forward(one, images, regions).cpu().numpy() for name, one in encoders.items()}
            if not all(np.isfinite(values).all() for values in computed.values()):
                reason = f"gives features that are not finite, first on slide {slide}"
                raise EncoderError(reason, where=encoders["features"].spec, remedy="its weights are damaged")
            computed |= seen
            for name, values in computed.items():
                found.setdefault(name, []).append(values)
            advance(len(images))
        yield slide, {name: np.concatenate(values) for name, values in found.items()}


def _describe(store: TileStore, indices: NDArray[np.int64]) -> Rows:
    rows = store.index.take(indices)
    texts = {name: np.array([value or "" for value in rows[name].to_pylist()], np.str_) for name in STRINGS}
    coords = np.stack([rows["x"].to_numpy(), rows["y"].to_numpy()], axis=1)
    kinds = np.array([store.slides[slide].kind == "tiles" for slide in texts["slide_id"].tolist()])
    return {"coords": coords, "index": indices, "ready_made": kinds, **texts}


def _attributes(
    store: TileStore, slide: str, encoder: LoadedEncoder, pool: str, precision: str
) -> dict[str, Any]:
    """Attributes of ``coords`` by TRIDENT's names, and pooling, precision and resolutions in µm/px."""
    record, spec = store.slides[slide], store.spec
    return {
        "name": slide,
        "encoder": encoder.spec,
        "pool": pool,
        "precision": precision,
        "patch_size": spec.size_px,
        "patch_size_level0": round(spec.size_px * spec.mpp / record.mpp),
        "overlap": spec.size_px - spec.stride_px,
        "level0_magnification": 10 / record.mpp,
        "target_magnification": 10 / spec.mpp,
        "level0_mpp": record.mpp,
        "target_mpp": spec.mpp,
        "level0_width": record.size_px[0],
        "level0_height": record.size_px[1],
    }


def _as_it_is(batch: Any) -> Any:
    return batch
