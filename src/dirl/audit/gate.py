"""The label-free gate: an encoder must recognise tiles better than its untrained control and colours do.

If it does not, we do not know that it has learned. Then its attention means nothing.
"""

from collections.abc import Callable, Mapping, Sequence
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
from dirl.encoders.loading import LoadedEncoder, embed_images
from dirl.encoders.measures import effective_rank
from dirl.pretrain.read_run import read_metrics, read_recipe
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out
from dirl.views.batch import make_views

MOST_TILES, FEWEST_TILES = 128, 8
TRIALS = 64
BATCH = 32

Floats = NDArray[np.floating]
Embedder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class GateTiles:
    """The views that all encoders of an audit see: the same tiles, draws and augmentations.

    `audited` says that the tiles are those of the audit, in its order, whose embeddings are known.
    """

    store: TileStore
    indices: NDArray[np.int64]
    views: ViewsConfig
    seed: int
    audited: bool = False

    @property
    def repeats(self) -> int:
        """Views of each tile: more when there are few tiles."""
        return max(1, round(TRIALS / max(1, len(self.indices))))


def gate_tiles(store: TileStore, runs: Sequence[Path], audited: NDArray[np.int64], seed: int) -> GateTiles:
    """Choose tiles that none of the runs was trained on, and the views of the first, or the default ones.

    These are the audited tiles (t,) if there are no others in the way: their embeddings are known. Else they
    are drawn, at most as many. More than 128 are never taken: the more tiles, the harder the retrieval.
    """
    free = np.ones(len(store), dtype=bool)
    views: ViewsConfig | None = None
    for run in runs:
        card, recipe = read_card(run, "pretrain"), read_recipe(run)
        views = views or recipe.views
        if card.inputs.get("tiling") == store.card.digest:
            free &= held_out(store.tile_ids.tolist(), recipe.holdout, recipe.seed)
    same = len(audited) <= MOST_TILES and bool(free[audited].all())
    if same:
        chosen = audited
    else:
        candidates = np.flatnonzero(free)
        count = min(len(candidates), len(audited), MOST_TILES)
        chosen = np.sort(np.random.default_rng(seed).choice(candidates, count, replace=False))
    views = views or ViewsConfig(size_px=min(224, store.spec.size_px))
    return GateTiles(store, chosen, views.model_copy(update={"count": 2, "local_count": 0}), seed, same)


def gates(
    pairs: Sequence[tuple[LoadedEncoder, LoadedEncoder]],
    tiles: GateTiles,
    resamples: int,
    advance: Callable[[], None] = lambda: None,
    embeddings: Mapping[str, Tensor] | None = None,
) -> dict[str, LabelFreeGate]:
    """Test all encoders on the same views, each paired with its untrained control; the result is by name.

    A view of each tile is made. It looks for its tile among all tiles, by the cosine of standardised
    embeddings. An encoder passes if it finds it more often than its untrained
    control and than the mean and standard deviation of the colours. The interval of each difference must lie
    above 0. It is over slides if there are at least five, else over tiles. The loss of a run must also have
    fallen. `advance` is called after each of ``tiles.repeats`` rounds. `embeddings` (t, d) of the tiles, by
    encoder's name, save a pass.
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
    embedders = [partial(embed_images, encoder) for encoder in once.values()]
    given = embeddings or {}
    known = [None, *(given.get(encoder.name) for encoder in once.values())]
    (colour, *found), (_, *ranks) = _hits([channel_statistics, *embedders], known, tiles, advance)
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
    units = choose_units(source_slides(tiles.store, tiles.indices), count, resamples, tiles.seed)
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


def retrieved(queries: Tensor, keys: Tensor) -> Tensor:
    """Whether each query's nearest key, by cosine, is of the same tile, (t,).

    The queries and keys (t, d) are two embeddings of the same tiles. Every dimension is first standardised
    over both, since all embeddings of an untrained encoder point in nearly the same direction.
    """
    both = torch.cat([queries, keys])
    std, mean = torch.std_mean(both, dim=0)
    both = torch.nn.functional.normalize((both - mean) / std.clamp(min=1e-8), dim=1)
    similarity = both[: len(queries)] @ both[len(queries) :].T
    return similarity.argmax(1) == torch.arange(len(queries), device=similarity.device)


def channel_statistics(images: Tensor) -> Tensor:
    """Mean and standard deviation of each channel, shape (b, 6), as a baseline without learning."""
    std, mean = torch.std_mean(images, dim=(2, 3))
    return torch.cat([mean, std], dim=1)


def _hits(
    embedders: Sequence[Embedder],
    known: Sequence[Tensor | None],
    tiles: GateTiles,
    advance: Callable[[], None],
) -> tuple[list[Floats], list[float]]:
    """For each embedder, the share of repeats in which each tile was retrieved, (t,), and the views' rank.

    `known` are the embeddings of the tiles themselves, (t, d), where they were made before.
    """
    count = len(tiles.indices)
    total, ranks = [np.zeros(count) for _ in embedders], [0.0 for _ in embedders]
    keys = [[] if one is None else [one] for one in known]
    for repeat in range(tiles.repeats):
        parts: list[list[Tensor]] = [[] for _ in embedders]
        for start in range(0, count, BATCH):
            chosen = tiles.indices[start : start + BATCH]
            images = torch.from_numpy(np.stack([tiles.store.image(int(i)) for i in chosen]))
            images = images.permute(0, 3, 1, 2)
            places = repeat * count + start + np.arange(len(chosen))
            view = make_views(images, places, tiles.views, seed=tiles.seed)[0].images[0]
            for i, function in enumerate(embedders):
                parts[i].append(function(view).cpu())
                if known[i] is None and not repeat:
                    keys[i].append(function(images.float() / 255).cpu())
        for i, part in enumerate(parts):
            queries = torch.cat(part)
            total[i] += retrieved(queries, torch.cat(keys[i])).numpy()
            ranks[i] = ranks[i] or effective_rank(queries)
        advance()
    return [hits / tiles.repeats for hits in total], ranks


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
