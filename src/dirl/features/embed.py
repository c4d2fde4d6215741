"""`dirl embed`: features of tiles, of a store or straight from slides, beside what they are compared with."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.card import Card, claim, finish, new_card
from dirl.encoders.checkpoint import LoadedEncoder, load_encoder
from dirl.encoders.device import choose_device, choose_precision
from dirl.errors import ConfigError, DirlError, EncoderError, PartlyFailedError, StoreError, explained
from dirl.features.colour import colour_histogram, colour_statistics
from dirl.features.h5 import (
    AGAIN,
    FLOORS,
    FLOORS_DIR,
    ROWS_DIR,
    Features,
    count_rows,
    read_features,
    read_rows,
    write_rows,
)
from dirl.features.hash import perceptual_hash
from dirl.features.pooling import MODEL, POOLS, REGIONS, patch_tokens, pooled
from dirl.features.sources import Rows, SlideFiles, SlideTiles, StoreTiles, TileSource
from dirl.parallel import read_ahead
from dirl.progress import bar

Forward = Callable[[LoadedEncoder, Tensor, Tensor | None], Tensor]
THREADS = 4
BATCHES_AHEAD = 2


def embed(
    encoder: str,
    source: Path | SlideFiles,
    out: Path,
    *,
    pool: str = MODEL,
    cells: str = "hematoxylin",
    precision: str = "auto",
    select: float | None = None,
    tiles: int | None = None,
    seed: int = 0,
    floors: bool | Path = True,
    device: str = "auto",
    batch: int = 64,
    workers: int = THREADS,
    overwrite: bool = False,
    quiet: bool = False,
) -> Features:
    """Embed tiles, and the floors in the same pass.

    Tiles are read, decoded and looked at for their floors by threads, while the encoder is at work.

    Parameters
    ----------
    encoder
        As `load_encoder` takes it.
    source
        A tile store, or slides.
    out
        Directory of the features; slides that it holds already are not done again.
    pool
        How tokens become a feature, the untrained encoder's too: see `pooled`.
    cells
        Whose cells give the regions, where they are pooled.
    precision
        Of the forward passes: see `choose_precision`. Features are float32 in any case.
    select
        Only this share of each slide's tiles in a store, as `select_tiles` selects them; None is all.
    tiles
        At most so many tiles of a store, spread over its slides in proportion; None is all.
    seed
        Of the selection, of that choice, and of the untrained encoder that is a floor.
    floors
        Compute the floors. The untrained encoder's forward pass takes as long as the encoder's own; a path is
        that of finished features of the same tiles, by an encoder of the same architecture, whose floors are
        copied instead.
    device
        ``auto``, or a torch device.
    batch
        Tiles in one forward pass.
    workers
        Threads that read tiles.
    overwrite
        Replace features of another encoder, source or choice.
    quiet
        Show no progress.

    Raises
    ------
    ConfigError
        If there is no such pooling, precision or share, slides cannot be embedded so, or `floors` are those
        of other tiles or of another architecture.
    EncoderError
        If the encoder cannot be loaded, does not take these tiles, has no patch tokens to pool, or gives
        numbers that are not finite.
    StoreError
        If there is no such store, it is damaged or lacks the cells, or `out` holds something else.
    SlideError
        If the only slide cannot be read or tiled.
    PartlyFailedError
        If some of several slides cannot; the others are done.
    """
    if pool not in POOLS:
        raise ConfigError("no such pooling", where=f"--pool {pool}", remedy=f"there are: {', '.join(POOLS)}")
    held = _open(source, cells if pool == REGIONS else None, select, tiles, seed, quiet)
    where = choose_device(device)
    precision = choose_precision(precision, where)
    loaded = load_encoder(encoder, device=where)
    encoders = {"features": loaded} | ({"untrained": loaded.randomised(seed)} if floors is True else {})
    if pool != MODEL:  # a model without patch tokens is refused before anything is written
        patch_tokens(loaded, torch.zeros(1, 3, held.size_px, held.size_px, dtype=torch.uint8))
    forward = partial(pooled, pool=pool, precision=precision)
    settings = {"encoder": encoder, "pool": pool, "precision": precision, "seed": seed, **held.settings}
    if not floors:
        settings["floors"] = False
    card = new_card("embed", settings, {"encoder": loaded.digest, **held.inputs})
    if isinstance(floors, Path):
        _check_floors(floors, card, loaded)
    card = claim(out, card, overwrite=overwrite)
    if card.finished and not card.counts.get("failed"):
        return read_features(out)

    files = {slide: out / ROWS_DIR / f"{slide}.h5" for slide in held.slide_ids}
    failures: dict[str, DirlError] = {}
    with bar("Embedding tiles", held.count, quiet=quiet) as advance:
        advance(sum(count_rows(file, AGAIN) for file in files.values() if file.exists()))
        missing = [slide for slide, file in files.items() if not file.exists()]
        for opened, rows in embed_slides(
            held, missing, encoders, forward, failures, batch=batch, threads=workers, advance=advance
        ):
            slide = opened.record.slide_id
            if isinstance(floors, Path):
                copied = read_rows(floors / FLOORS_DIR / f"{slide}.h5", FLOORS, AGAIN)
                write_rows(out / FLOORS_DIR / f"{slide}.h5", copied)
            elif floors:
                write_rows(out / FLOORS_DIR / f"{slide}.h5", {name: rows.pop(name) for name in FLOORS})
            # The features come last: a slide that has them is whole.
            write_rows(files[slide], rows | opened.rows, _attributes(opened, loaded, pool, precision))
    done = [count_rows(file, AGAIN) for file in files.values() if file.exists()]
    if done:
        counts = {"tiles": sum(done), "slides": len(done), "failed": len(failures)}
        finish(out, card, {**counts, **held.counts})
    if failures and len(files) == 1:
        raise failures.popitem()[1]
    if failures:
        raise PartlyFailedError(failures, len(done))
    return read_features(out)


def _check_floors(path: Path, card: Card, encoder: LoadedEncoder) -> None:
    """Refuse floors of features that have other floors than those to be made would have."""
    other = read_features(path).card
    made = load_encoder(other.config["encoder"])
    ours, theirs = (
        ({**of.config, "encoder": None}, {**of.inputs, "encoder": None}, *_untrained(one))
        for of, one in ((card, encoder), (other, made))
    )
    if ours != theirs:
        raise ConfigError("features of other tiles, or of an encoder of another architecture", where=path)


def _untrained(encoder: LoadedEncoder) -> tuple[Any, ...]:
    """All that the untrained encoder depends on, but for the seed."""
    return encoder.architecture, dict(encoder.arguments), encoder.mean, encoder.std


def embed_slides(
    source: TileSource,
    slide_ids: Iterable[str],
    encoders: Mapping[str, LoadedEncoder],
    forward: Forward,
    failures: dict[str, DirlError],
    *,
    batch: int,
    threads: int,
    advance: Callable[..., None],
) -> Iterator[tuple[SlideTiles, Rows]]:
    """Embed slides one after the other, while threads read ahead, over the borders of slides too.

    Parameters
    ----------
    source, slide_ids
        Tiles, and the slides that are wanted of them.
    encoders
        By the name that their features get; where ``untrained`` is among them, the colour floors are computed
        too.
    forward
        Encoder, images and regions to features.
    failures
        Slides that cannot be read are put in here, with the reason.
    batch, threads
        Tiles in a forward pass; threads that read them.
    advance
        Called with the number of tiles done.

    Yields
    ------
    tuple
        A slide's tiles, and its rows: the features, ``hash``, and the colour floors.

    Raises
    ------
    StoreError
        If a store is damaged.
    EncoderError
        If features are not finite.
    """
    looks = _looks(source, slide_ids, failures, "untrained" in encoders, threads, BATCHES_AHEAD * batch)
    with closing(looks):
        for opened, group in groupby(looks, key=itemgetter(0)):
            seen = (look for _, look in group)
            rows = _embedded(opened, seen, encoders, forward, batch, advance)
            if isinstance(rows, DirlError):
                failures[opened.record.slide_id] = rows
            for _ in seen:  # the rest of a slide that failed: no thread may read what is closed
                pass
            opened.close()
            if not isinstance(rows, DirlError):
                yield opened, rows


def _open(
    source: Path | SlideFiles,
    cells: str | None,
    select: float | None,
    tiles: int | None,
    seed: int,
    quiet: bool,
) -> TileSource:
    if not isinstance(source, SlideFiles):
        return StoreTiles(source, cells=cells, select=select, tiles=tiles, seed=seed, quiet=quiet)
    if cells is not None:
        raise ConfigError(
            "slides come without cells, and regions need them",
            where=f"--pool {REGIONS}",
            remedy="make a store with `dirl tile`, then `dirl cells`, and name it with --store",
        )
    for option, value in (("--select", select), ("--tiles", tiles)):
        if value is not None:
            raise ConfigError(
                "slides are embedded whole",
                where=f"{option} {value}",
                remedy="choose tiles of a store, --store",
            )
    return source


def _looks(
    source: TileSource,
    slide_ids: Iterable[str],
    failures: dict[str, DirlError],
    floors: bool,
    threads: int,
    ahead: int,
) -> Generator[tuple[SlideTiles, Rows | Exception], None, None]:
    """Yield slide by slide what is seen of each tile; slides that cannot be opened go to `failures`.

    Slides that stand there already are not read on.
    """

    def places() -> Iterator[tuple[SlideTiles, int]]:
        # The next slide's tissue is found while this one's tiles are read.
        for slide_id, opened in read_ahead(source.open, slide_ids, threads=1, ahead=1):
            if isinstance(opened, Exception):
                failures[slide_id] = _explained(opened, slide_id)
            else:
                for i in range(len(opened)):
                    if slide_id in failures:  # a tile before could not be read
                        break
                    yield opened, i

    look = partial(_look, floors=floors)
    for (opened, _), seen in read_ahead(look, places(), threads, ahead):
        yield opened, seen


def _look(place: tuple[SlideTiles, int], *, floors: bool) -> Rows:
    """Pixels of a tile, its regions where they are asked for, a perceptual hash, and the colour floors."""
    tiles, i = place
    image = tiles.image(i)
    seen: Rows = {"image": image, "hash": np.asarray(perceptual_hash(image))}
    if tiles.regions is not None:
        seen["regions"] = tiles.regions(i)
    if floors:
        seen["colour_statistics"] = colour_statistics(image)
        seen["colour_histogram"] = colour_histogram(image)
    return seen


def _embedded(
    tiles: SlideTiles,
    looks: Iterator[Rows | Exception],
    encoders: Mapping[str, LoadedEncoder],
    forward: Forward,
    batch: int,
    advance: Callable[..., None],
) -> Rows | DirlError:
    """What is computed of a slide's tiles, or why one of them cannot be read."""
    found: dict[str, list[NDArray[Any]]] = {}
    while part := list(islice(looks, batch)):
        rows = []
        for look in part:
            if isinstance(look, Exception):
                return _explained(look, tiles.record.path)
            rows.append(look)
        seen = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        images = torch.from_numpy(seen.pop("image")).permute(0, 3, 1, 2)
        regions = torch.from_numpy(seen.pop("regions")) if "regions" in seen else None
        for name, encoder in encoders.items():
            seen[name] = forward(encoder, images, regions).cpu().numpy()
            if not np.isfinite(seen[name]).all():
                reason = f"gives features that are not finite, first on slide {tiles.record.slide_id}"
                raise EncoderError(reason, where=encoder.spec, remedy="its weights are damaged")
        for name, values in seen.items():
            found.setdefault(name, []).append(values)
        advance(len(rows))
    return {name: np.concatenate(values) for name, values in found.items()}


def _explained(error: Exception, where: object) -> DirlError:
    """Say why a slide failed. A store's damage is no matter of one slide, and ends it all."""
    if isinstance(error, StoreError):
        raise error
    return explained(error, where)


def _attributes(tiles: SlideTiles, encoder: LoadedEncoder, pool: str, precision: str) -> dict[str, Any]:
    """Attributes of ``coords`` by TRIDENT's names, and pooling, precision and resolutions in µm/px."""
    record, spec = tiles.record, tiles.spec
    return {
        "name": record.slide_id,
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
