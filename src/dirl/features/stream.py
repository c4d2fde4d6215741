"""Embedding of slides: threads read tiles ahead, encoders run on batches, and each slide gives its rows."""

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

from dirl.core.errors import DirlError, EncoderError, StoreError, as_dirl_error
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
    """Embed slides one after the other, while threads read ahead, also into the next slide.

    Encoders are named after their features. With ``untrained`` among them, the colour baselines are computed,
    too. `failures` receives the slides that cannot be read, with the reason.

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
    tiles = _read_tiles(
        source, slide_ids, failures, Baseline.UNTRAINED in encoders, threads, BATCHES_AHEAD * batch
    )
    with closing(tiles):
        for opened, group in groupby(tiles, key=itemgetter(0)):
            of_slide = (tile for _, tile in group)
            rows = _embedded(opened, of_slide, encoders, forward, batch, advance)
            if isinstance(rows, DirlError):
                failures[opened.record.slide_id] = rows
            for _ in of_slide:  # the rest of a slide that failed: no thread may read a closed slide
                pass
            opened.close()
            if not isinstance(rows, DirlError):
                yield opened, rows


def _read_tiles(
    source: TileSource,
    slide_ids: Iterable[str],
    failures: dict[str, DirlError],
    baselines: bool,
    threads: int,
    ahead: int,
) -> Generator[tuple[SlideTiles, Rows | Exception], None, None]:
    """Yield the arrays of each tile, slide by slide. Slides that cannot be opened go to `failures`.

    A slide in `failures` is not read further.
    """

    def places() -> Iterator[tuple[SlideTiles, int]]:
        # The tissue of the next slide is found while the tiles of this one are read.
        for slide_id, opened in read_ahead(source.open, slide_ids, threads=1, ahead=1):
            if isinstance(opened, Exception):
                failures[slide_id] = _explained(opened, slide_id)
            else:
                for i in range(len(opened)):
                    if slide_id in failures:  # an earlier tile could not be read
                        break
                    yield opened, i

    for (opened, _), tile in read_ahead(partial(_read_tile, baselines=baselines), places(), threads, ahead):
        yield opened, tile


def _read_tile(place: tuple[SlideTiles, int], *, baselines: bool) -> Rows:
    """Pixels of a tile, its perceptual hash, and on request its regions and its colour baselines."""
    tiles, i = place
    image = tiles.image(i)
    arrays: Rows = {"image": image, "hash": np.asarray(perceptual_hash(image))}
    if tiles.regions is not None:
        arrays["regions"] = tiles.regions(i)
    if baselines:
        arrays[Baseline.COLOUR_STATISTICS] = colour_statistics(image)
        arrays[Baseline.COLOUR_HISTOGRAM] = colour_histogram(image)
    return arrays


def _embedded(
    tiles: SlideTiles,
    read: Iterator[Rows | Exception],
    encoders: Mapping[str, LoadedEncoder],
    forward: Forward,
    batch: int,
    advance: Callable[..., None],
) -> Rows | DirlError:
    """Features and arrays of a slide's tiles, or the error of a tile that cannot be read."""
    found: dict[str, list[NDArray[Any]]] = {}
    while part := list(islice(read, batch)):
        rows = []
        for tile in part:
            if isinstance(tile, Exception):
                return _explained(tile, tiles.record.path)
            rows.append(tile)
        arrays = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        images = torch.from_numpy(arrays.pop("image")).permute(0, 3, 1, 2)
        regions = torch.from_numpy(arrays.pop("regions")) if "regions" in arrays else None
        for name, encoder in encoders.items():
            arrays[name] = forward(encoder, images, regions).cpu().numpy()
            if not np.isfinite(arrays[name]).all():
                reason = f"gives features that are not finite, first on slide {tiles.record.slide_id}"
                raise EncoderError(reason, where=encoder.spec, remedy="its weights are damaged")
        for name, values in arrays.items():
            found.setdefault(name, []).append(values)
        advance(len(rows))
    return {name: np.concatenate(values) for name, values in found.items()}


def _explained(error: Exception, where: object) -> DirlError:
    """Describe why a slide failed. Damage of a store affects all slides and is raised."""
    if isinstance(error, StoreError):
        raise error
    return as_dirl_error(error, where)
