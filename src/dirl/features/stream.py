"""Slides through encoders: threads read tiles ahead, batches go forward, rows come out slide by slide."""

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from functools import partial
from itertools import groupby, islice
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.core.errors import DirlError, EncoderError, StoreError, explained
from dirl.core.parallel import read_ahead
from dirl.encoders.loading import LoadedEncoder
from dirl.features.baselines import Baseline
from dirl.features.perceptual_hash import perceptual_hash
from dirl.features.sources import Rows, SlideTiles, TileSource
from dirl.store.colour import colour_histogram, colour_statistics

Forward = Callable[[LoadedEncoder, Tensor, Tensor | None], Tensor]
BATCHES_AHEAD = 2


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
        By the name that their features get; where ``untrained`` is among them, the colour baselines are
        computed, too.
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
        A slide's tiles, and its rows: the features, ``hash``, and the colour baselines.

    Raises
    ------
    StoreError
        If a store is damaged.
    EncoderError
        If features are not finite.
    """
    looks = _looks(
        source, slide_ids, failures, Baseline.UNTRAINED in encoders, threads, BATCHES_AHEAD * batch
    )
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


def _looks(
    source: TileSource,
    slide_ids: Iterable[str],
    failures: dict[str, DirlError],
    baselines: bool,
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

    look = partial(_look, baselines=baselines)
    for (opened, _), seen in read_ahead(look, places(), threads, ahead):
        yield opened, seen


def _look(place: tuple[SlideTiles, int], *, baselines: bool) -> Rows:
    """Pixels of a tile, its regions where they are asked for, a perceptual hash, and the colour baselines."""
    tiles, i = place
    image = tiles.image(i)
    seen: Rows = {"image": image, "hash": np.asarray(perceptual_hash(image))}
    if tiles.regions is not None:
        seen["regions"] = tiles.regions(i)
    if baselines:
        seen[Baseline.COLOUR_STATISTICS] = colour_statistics(image)
        seen[Baseline.COLOUR_HISTOGRAM] = colour_histogram(image)
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
