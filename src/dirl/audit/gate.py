"""The label-free gate: an encoder that fails it has learned nothing that its attention could be judged by."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.config import PretrainRecipe, ViewsConfig, make
from dirl.core.checked import checked
from dirl.core.intervals import Units, interval, means
from dirl.core.provenance import read_card
from dirl.encoders.loading import LoadedEncoder, embed
from dirl.pretrain.data import held_out
from dirl.pretrain.logs import read_metrics
from dirl.store.dataset import TileStore
from dirl.views.batch import make_views

MOST_TILES, FEWEST_TILES = 128, 8
TRIALS = 256
BATCH = 32

Interval = dict[str, float | None]
Floats = NDArray[np.floating]
Embedder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Gate:
    """Outcome of the gate for one encoder.

    Attributes
    ----------
    passed
        Whether every condition holds.
    tiles
        Held-out tiles that were told apart.
    accuracy
        Share of views whose nearest other view is of the same tile: of the encoder, ``untrained``,
        ``colour``, and ``chance``.
    over_untrained, over_colour
        Difference in accuracy with its 95 % interval over tiles; it must lie above 0. An encoder whose
        weights are random is the untrained one itself.
    loss
        Mean of the first and of the last tenth of the run's loss; None if the encoder is no run, or none was
        logged.
    reasons
        The conditions that do not hold, in words.
    """

    passed: bool
    tiles: int
    accuracy: Mapping[str, float]
    over_untrained: Interval
    over_colour: Interval
    loss: tuple[float, float] | None
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class GateTiles:
    """The views that all encoders of an audit are put to: the same tiles, draws and augmentations."""

    store: TileStore
    indices: NDArray[np.int64]
    views: ViewsConfig
    seed: int

    @property
    def repeats(self) -> int:
        """Pairs of views per tile: more when there are few tiles."""
        return max(1, math.ceil(TRIALS / max(1, len(self.indices))))


def gate_tiles(store: TileStore, encoders: Sequence[LoadedEncoder], tiles: int, seed: int) -> GateTiles:
    """Choose tiles that none of the runs was trained on, and the views of the first run, else the defaults.

    Parameters
    ----------
    tiles
        At most so many, and never more than 128: the more tiles, the harder the retrieval.
    """
    free = np.ones(len(store), dtype=bool)
    views: ViewsConfig | None = None
    for encoder in encoders:
        if encoder.run is None:
            continue
        card = read_card(encoder.run, "pretrain")
        recipe = make(PretrainRecipe, card.config, where=encoder.run / "card.json")
        views = views or recipe.views
        if card.inputs.get("tiling") == store.card.digest:
            free &= held_out(store.tile_ids.tolist(), recipe.holdout, recipe.seed)
    candidates = np.flatnonzero(free)
    count = min(len(candidates), tiles, MOST_TILES)
    chosen = np.sort(np.random.default_rng(seed).choice(candidates, count, replace=False))
    views = views or ViewsConfig(size_px=min(224, store.spec.size_px))
    return GateTiles(store, chosen, views.model_copy(update={"count": 2, "local_count": 0}), seed)


def gates(
    pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]],
    tiles: GateTiles,
    resamples: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, Gate]:
    """Put encoders to the gate, all to the same views.

    One view of each tile must find the tile's other view among those of all tiles, by the cosine of
    standardised embeddings, more often than with the untrained control and than with the mean and standard
    deviation of the colours; and the loss of a run must have fallen.

    Parameters
    ----------
    pairs
        Each encoder with its untrained control.
    tiles
        From `gate_tiles`.
    resamples
        Of the bootstrap over tiles.
    advance
        Called after each of ``tiles.repeats`` rounds.

    Returns
    -------
    dict
        By encoder's name.
    """
    count = len(tiles.indices)
    if count < FEWEST_TILES:
        reason = f"only {count} held-out tiles: at least {FEWEST_TILES} are needed to tell tiles apart"
        nothing: Interval = {"value": None, "low": None, "high": None}
        return {
            one.name: Gate(False, count, {}, nothing, nothing, _loss(one.run), (reason,)) for one, _ in pairs
        }
    # Each once, since many share a control; not by weights, as equal ones may see other pixels.
    once = {id(encoder): encoder for pair in pairs for encoder in pair}
    embedders = [partial(embed, encoder) for encoder in once.values()]
    colour, *found = _hits([colour_statistics, *embedders], tiles, advance)
    hits = dict(zip(once, found, strict=True))
    return {
        one.name: _judge(one, hits[id(one)], hits[id(control)], colour, tiles, resamples)
        for one, control in pairs
    }


def _judge(
    encoder: LoadedEncoder,
    ours: Floats,
    untrained: Floats,
    colour: Floats,
    tiles: GateTiles,
    resamples: int,
) -> Gate:
    count, loss = len(tiles.indices), _loss(encoder.run)
    units = Units("tiles", np.arange(count), resamples, tiles.seed)
    over_untrained, over_colour = (_difference(ours, theirs, units) for theirs in (untrained, colour))
    hit = float(ours.mean())
    reasons = [] if not encoder.random else ["its weights are random, so it is its own untrained control"]
    reasons += [
        f"retrieval {hit:.2f} is not above {what} {theirs.mean():.2f} "
        f"(difference {_signed(over['low'])} to {_signed(over['high'])})"
        for what, theirs, over in (
            ("that of the untrained encoder,", untrained, over_untrained),
            ("that of colour statistics,", colour, over_colour),
        )
        if not encoder.random and not (over["low"] or 0) > 0
    ]
    if encoder.run is not None and loss is None:
        reasons.append("the run logged no loss")
    elif loss is not None and not loss[1] < loss[0]:
        reasons.append(f"the loss did not fall ({loss[0]:.3f} to {loss[1]:.3f})")
    accuracy = {"encoder": hit, "untrained": float(untrained.mean()), "colour": float(colour.mean())}
    accuracy["chance"] = 1 / count
    return Gate(not reasons, count, accuracy, over_untrained, over_colour, loss, tuple(reasons))


def retrieved(queries: Tensor, keys: Tensor) -> Tensor:
    """Say whether each query's nearest key, by cosine, is its own.

    Parameters
    ----------
    queries, keys : Tensor of shape (t, d)
        Two embeddings of the same t tiles. Every dimension is standardised over both first, since the
        embeddings of an untrained encoder all point one way.

    Returns
    -------
    Tensor of shape (t,), bool
    """
    both = torch.cat([queries, keys])
    std, mean = torch.std_mean(both, dim=0)
    both = torch.nn.functional.normalize((both - mean) / std.clamp(min=1e-8), dim=1)
    similarity = both[: len(queries)] @ both[len(queries) :].T
    return similarity.argmax(1) == torch.arange(len(queries), device=similarity.device)


def colour_statistics(images: Tensor) -> Tensor:
    """Mean and standard deviation of each channel, shape (b, 6): what needs no learning."""
    std, mean = torch.std_mean(images, dim=(2, 3))
    return torch.cat([mean, std], dim=1)


def _hits(embedders: Sequence[Embedder], tiles: GateTiles, advance: Callable[[], None]) -> list[Floats]:
    """Share of the repeats at which each tile was retrieved, shape (t,), of each embedder."""
    count = len(tiles.indices)
    total = [np.zeros(count) for _ in embedders]
    for repeat in range(tiles.repeats):
        parts: list[list[Tensor]] = [[] for _ in embedders]
        for start in range(0, count, BATCH):
            chosen = tiles.indices[start : start + BATCH]
            images = torch.from_numpy(np.stack([tiles.store.image(int(i)) for i in chosen]))
            views = make_views(
                images.permute(0, 3, 1, 2),
                repeat * count + start + np.arange(len(chosen)),
                tiles.views,
                seed=tiles.seed,
            )[0].images
            for part, function in zip(parts, embedders, strict=True):
                part.append(torch.stack([function(view).cpu() for view in views]))
        for hits, part in zip(total, parts, strict=True):
            hits += retrieved(*torch.cat(part, dim=1)).numpy()
        advance()
    return [hits / tiles.repeats for hits in total]


def _difference(ours: Floats, theirs: Floats, units: Units) -> Interval:
    value, resampled = means((ours - theirs)[:, None], units)
    return interval(value[0], resampled[:, 0])


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
