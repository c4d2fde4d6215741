"""The label-free gate: an encoder must recognise tiles better than its untrained control and colours do.

A view of a tile looks for its tile. The embeddings of audited tiles come from the audit's own pass over them.

If it does not, we do not know that it has learned. Then its attention means nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.audit.findings import NO_ESTIMATE, IntervalUnits, LabelFreeGate, Retrieval
from dirl.audit.tiles import source_slides
from dirl.config import ViewsConfig
from dirl.core.card import read_card
from dirl.core.checked import checked
from dirl.core.intervals import Estimate, Units, choose_units, estimate, means
from dirl.core.randomness import permute
from dirl.encoders.loading import LoadedEncoder, embed_images
from dirl.encoders.measures import effective_rank
from dirl.pretrain.read_run import read_metrics, read_recipe
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out
from dirl.views.batch import make_views

MOST_TILES, FEWEST_TILES = 128, 8
FEWEST_VIEWS = 32
BATCH = 32

Floats = NDArray[np.floating]
Embedder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GateTiles:
    """The tiles and views that all encoders of an audit see.

    Attributes
    ----------
    audited : array of shape (t,)
        Numbers of the audited tiles in the store, in rising order.
    indices : array of shape (n,)
        Numbers of the gate's tiles, in rising order.
    """

    store: TileStore
    audited: NDArray[np.int64]
    indices: NDArray[np.int64]
    views: ViewsConfig
    seed: int

    @property
    def looked_for(self) -> NDArray[np.int64]:
        """The tile of each view, as its place among `indices`, (v,): half as many views as audited tiles."""
        count = len(self.indices)
        return np.resize(permute(self.seed, np.arange(count), count), self.count)

    @property
    def count(self) -> int:
        """Number of views; at least 32."""
        return max(FEWEST_VIEWS, len(self.audited) // 2)


@dataclass(frozen=True)
class Embedded:
    """An encoder, and its embeddings (t, d) of the audited tiles."""

    encoder: LoadedEncoder
    embeddings: Tensor


def gate_tiles(store: TileStore, audited: NDArray[np.int64], runs: Sequence[Path], seed: int) -> GateTiles:
    """Choose tiles that none of the runs was trained on, and the views of the first, or the default ones.

    Audited tiles are taken first, since they are embedded anyway. At most as many as are audited are taken,
    and never more than 128: the more tiles, the harder the retrieval.
    """
    free = np.ones(len(store), dtype=bool)
    views: ViewsConfig | None = None
    for run in runs:
        card, recipe = read_card(run, "pretrain"), read_recipe(run)
        views = views or recipe.views
        if card.inputs.get("tiling") == store.card.digest:
            free &= held_out(store.tile_ids.tolist(), recipe.holdout, recipe.seed)
    count, generator = min(int(free.sum()), len(audited), MOST_TILES), np.random.default_rng(seed)
    first = generator.permutation(audited[free[audited]])
    free[audited] = False
    chosen = np.sort(np.concatenate([first, generator.permutation(np.flatnonzero(free))])[:count])
    views = views or ViewsConfig(size_px=min(224, store.spec.size_px))
    views = views.model_copy(update={"count": 1, "local_count": 0})
    return GateTiles(store, audited, chosen, views, seed)


def gates(
    pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]],
    tiles: GateTiles,
    embedded: Sequence[Embedded],
    resamples: int,
    advance: Callable[[int], None] = lambda _: None,
) -> dict[str, LabelFreeGate]:
    """Test all encoders on the same views, each paired with its untrained control; the result is by name.

    Each view looks for its tile among all tiles, by the cosine of standardised embeddings. An encoder passes
    if it finds it more often than its untrained control and than the mean and standard deviation of the
    colours. The interval of each difference must lie above 0. It is over slides if there are at least five,
    else over tiles. The loss of a run must also have fallen. Encoders and controls whose embeddings of the
    audited tiles are in `embedded` do not see these again. `advance` is called with the number of views that
    were processed.
    """
    count = len(tiles.indices)
    if count < FEWEST_TILES:
        reason = f"only {count} held-out tiles: at least {FEWEST_TILES} are needed to tell tiles apart"
        return {
            one.name: LabelFreeGate(
                passed=False,
                tiles=count,
                accuracy=Retrieval(),
                over_untrained=NO_ESTIMATE,
                over_colour=NO_ESTIMATE,
                loss=_loss(one.run),
                reasons=(reason,),
            )
            for one, _ in pairs
        }
    # Each encoder once, since many share a control. Not by digest: equal weights may see other pixels.
    once = {id(encoder): encoder for pair in pairs for encoder in pair}
    keys = {id(one.encoder): one.embeddings for one in embedded}
    embedders = [partial(embed_images, encoder) for encoder in once.values()]
    tests = [_Test(channel_statistics, _keys(channel_statistics, tiles, None))]
    tests += [
        _Test(one, _keys(one, tiles, keys.get(name))) for name, one in zip(once, embedders, strict=True)
    ]
    colour, *found = _hits(tests, tiles, advance)
    ranks = [effective_rank(one.keys) for one in tests[1:]]
    hits, rank = dict(zip(once, found, strict=True)), dict(zip(once, ranks, strict=True))
    return {
        one.name: _gate(one, hits[id(one)], hits[id(control)], colour, tiles, resamples, rank[id(one)])
        for one, control in pairs
    }


def _gate(
    encoder: LoadedEncoder,
    hits: Floats,
    untrained: Floats,
    colour: Floats,
    tiles: GateTiles,
    resamples: int,
    rank: float,
) -> LabelFreeGate:
    count, loss = len(tiles.indices), _loss(encoder.run)
    asked = tiles.indices[np.unique(tiles.looked_for)]
    units = choose_units(source_slides(tiles.store, asked), len(asked), resamples, tiles.seed)
    over_untrained, over_colour = (_difference(hits, theirs, units) for theirs in (untrained, colour))
    hit = float(hits.mean())
    reasons = [] if not encoder.random else ["its weights are random, so it is its own untrained control"]
    reasons += [
        f"retrieval {hit:.2f} is not above {what} {theirs.mean():.2f} "
        f"(difference {_signed(over.low)} to {_signed(over.high)})"
        for what, theirs, over in (
            ("that of the untrained encoder,", untrained, over_untrained),
            ("that of colour statistics,", colour, over_colour),
        )
        if not encoder.random and not (over.low or 0) > 0
    ]
    if encoder.run is not None and loss is None:
        reasons.append("the run logged no loss")
    elif loss is not None and not loss[1] < loss[0]:
        reasons.append(f"the loss did not fall ({loss[0]:.3f} to {loss[1]:.3f})")
    return LabelFreeGate(
        passed=not reasons,
        tiles=count,
        views=tiles.count,
        accuracy=Retrieval(
            encoder=hit,
            untrained=float(untrained.mean()),
            colour=float(colour.mean()),
            chance=1 / count,
        ),
        over_untrained=over_untrained,
        over_colour=over_colour,
        interval=IntervalUnits(over=units.kind, units=len(units)),
        rank=rank,
        loss=loss,
        reasons=tuple(reasons),
    )


def retrieved(queries: Tensor, keys: Tensor, own: Tensor) -> Tensor:
    """Whether each query's nearest key, by cosine, is its own, (v,).

    The queries are (v, d), the keys (n, d), and `own` (v,) is the place of each query's own key. Every
    dimension is first standardised, over queries and over keys. All embeddings of an untrained encoder point
    in nearly the same direction, and views differ from tiles as a whole.
    """
    similarity = _standardised(queries) @ _standardised(keys).T
    return similarity.argmax(1) == own


def _standardised(rows: Tensor) -> Tensor:
    std, mean = torch.std_mean(rows, dim=0)
    return torch.nn.functional.normalize((rows - mean) / std.clamp(min=1e-8), dim=1)


def channel_statistics(images: Tensor) -> Tensor:
    """Mean and standard deviation of each channel, shape (b, 6), as a baseline without learning."""
    values = images if images.is_floating_point() else images.float() / 255
    std, mean = torch.std_mean(values, dim=(2, 3))
    return torch.cat([mean, std], dim=1)


@dataclass(frozen=True)
class _Test:
    """An embedder, and its embeddings (n, d) of the gate's tiles."""

    embed: Embedder
    keys: Tensor


def _keys(embed: Embedder, tiles: GateTiles, audited: Tensor | None) -> Tensor:
    """Embed the gate's tiles; those among the `audited`, if their embeddings are given, are not run again."""
    there = np.isin(tiles.indices, tiles.audited) & (audited is not None)
    parts = [
        (place, embed(_pixels(tiles.store, tiles.indices[place])).cpu())
        for place in _batches(np.flatnonzero(~there))
    ]
    if audited is not None:
        parts.append((np.flatnonzero(there), audited[np.searchsorted(tiles.audited, tiles.indices[there])]))
    order = np.argsort(np.concatenate([place for place, _ in parts]))
    return torch.cat([rows for _, rows in parts])[order]


def _hits(tests: Sequence[_Test], tiles: GateTiles, advance: Callable[[int], None]) -> list[Floats]:
    """For each test, the share of views that found their tile, by tile that is looked for."""
    own = tiles.looked_for
    found: list[list[Tensor]] = [[] for _ in tests]
    for trials in _batches(np.arange(len(own))):
        images = _pixels(tiles.store, tiles.indices[own[trials]])
        view = make_views(images, trials, tiles.views, seed=tiles.seed)[0].images[0]
        for part, test in zip(found, tests, strict=True):
            part.append(test.embed(view).cpu())
        advance(len(trials))
    _, which, times = np.unique(own, return_inverse=True, return_counts=True)
    hits = [retrieved(torch.cat(part), test.keys, torch.from_numpy(own)).numpy()
            for part, test in zip(found, tests, strict=True)]  # fmt: skip
    return [np.bincount(which, one) / times for one in hits]


def _batches(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [numbers[start : start + BATCH] for start in range(0, len(numbers), BATCH)]


def _pixels(store: TileStore, indices: NDArray[np.int64]) -> Tensor:
    """Images (b, 3, h, w), uint8."""
    return torch.from_numpy(np.stack([store.image(int(i)) for i in indices])).permute(0, 3, 1, 2)


def _difference(hits: Floats, theirs: Floats, units: Units) -> Estimate:
    value, resampled = means((hits - theirs)[:, None], units)
    return estimate(value[0], resampled[:, 0])


def _loss(run: Path | None) -> tuple[float, float] | None:
    if run is None:
        return None
    losses = [row["loss"] for row in read_metrics(checked(run, "metrics.csv")) if "loss" in row]
    if not losses:
        return None
    tenth = max(1, len(losses) // 10)
    return float(np.mean(losses[:tenth])), float(np.mean(losses[-tenth:]))


def _signed(value: float | None) -> str:
    return "?" if value is None else f"{value:+.2f}".replace("-", "−")
