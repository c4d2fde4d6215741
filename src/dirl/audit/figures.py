"""The figures of an audit: which tiles are shown, and their attention maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dirl.audit.charts import depth_figure, enrichment_figure
from dirl.audit.confounder import Marked
from dirl.audit.estimates import TileMeasures
from dirl.audit.findings import Findings
from dirl.audit.full import full_attention
from dirl.audit.panels import AttentionMap, Example, comparison_figure, heads_figure
from dirl.audit.summary import ShownTile
from dirl.audit.tiles import AuditTiles
from dirl.encoders import measures as m
from dirl.encoders.attention import attention_rows
from dirl.encoders.loading import LoadedEncoder, preprocess
from dirl.report.style import encode

RULES = {
    2: "the highest, the median and the lowest difference in the primary measure, {b} minus {a}",
    1: "the highest, the median and the lowest primary measure",
}


@dataclass(frozen=True)
class Figures:
    """Figures of an audit: bytes by figure, then by kind (``png``, ``svg``).

    `rule` says how the shown `tiles` were chosen. `middle` is the number of the tile whose heads are shown.
    """

    rule: str
    tiles: list[ShownTile]
    middle: int
    figures: dict[str, dict[str, bytes]]


def draw_figures(
    found: Findings,
    encoders: Sequence[LoadedEncoder],
    tiles: AuditTiles,
    shown: Sequence[tuple[str, int]],
    measured: Sequence[TileMeasures],
) -> Figures:
    """Draw all figures of an audit, of tiles by rule and place from `estimates.choose_examples`.

    The attention is that which the measures of each encoder were taken of.
    """
    chosen = [_example(encoders, tiles, rule, place, measured) for rule, place in shown]
    middle = next((i for i, (rule, _) in enumerate(shown) if rule == "median"), 0)
    first, second = encoders[0].name, encoders[min(len(encoders), 2) - 1].name
    figures = {}
    if chosen:
        figures["comparison"] = {"png": encode(comparison_figure(chosen), "png", 120)}
        figures["heads"] = {"png": encode(heads_figure(chosen[middle]), "png", 120)}
    if chosen and found.full:
        rolled = [
            _rolled(one, encoders, tiles, int(tiles.indices[place]))
            for one, (_, place) in zip(chosen, shown, strict=True)
        ]
        figures["rollout"] = {"png": encode(comparison_figure(rolled), "png", 120)}
    charts = {"depth": depth_figure(found.encoders), "enrichment": enrichment_figure(found.encoders)}
    for name, figure in charts.items():
        figures[name] = {"png": encode(figure, "png", 160), "svg": encode(figure, "svg")}
    return Figures(
        rule=RULES[min(len(encoders), 2)].format(a=first, b=second),
        tiles=[ShownTile(title=one.title, tile_id=one.tile_id) for one in chosen],
        middle=middle,
        figures=figures,
    )


def draw_marks(encoders: Sequence[LoadedEncoder], tiles: AuditTiles, found: Marked) -> bytes:
    """Draw marked tiles, and the attention of each encoder on them, as PNG."""
    examples = []
    for rule, place in found.shown:
        inked = found.marks.stamp(tiles.read(tiles.indices[[place]]).images, np.array([place]))
        examples.append(
            Example(
                title=f"{rule} rank of the mark",
                tile_id=str(tiles.tile_ids[place]),
                image=inked[0].permute(1, 2, 0).numpy(),
                labels=found.marks.masks[place].numpy(),
                maps=tuple(attention_map(one, inked) for one in encoders),
            )
        )
    return encode(comparison_figure(examples, outlines="mark"), "png", 120)


def attention_map(encoder: LoadedEncoder, images: Tensor) -> AttentionMap:
    """Last-block attention of an encoder on one tile (1, 3, h, w), uint8."""
    rows = attention_rows(encoder.model, preprocess(encoder, images)).patches[0, -1].cpu()
    return _attention_map(encoder, rows, images.shape[-1])


def _attention_map(encoder: LoadedEncoder, rows: Tensor, side: int) -> AttentionMap:
    """Last-block attention (a, gh, gw) of an encoder on a tile of this side."""
    _, p = m.renormalise(rows.flatten(1))
    _, averaged = m.renormalise(rows.flatten(1).mean(0))
    grid = rows.shape[1:]
    high, wide = (side, side) if encoder.input_px else (n * encoder.patch_px for n in grid)
    left, top = (side - wide) // 2, (side - high) // 2
    return AttentionMap(
        name=encoder.name,
        p=p.view(-1, *grid).numpy(),
        averaged=averaged.view(*grid).numpy(),
        extent=(left, top, left + wide, top + high),
        entropy=np.append(m.normalised_entropy(p).numpy(), m.normalised_entropy(averaged).numpy()),
    )


def _example(
    encoders: Sequence[LoadedEncoder],
    tiles: AuditTiles,
    rule: str,
    place: int,
    measured: Sequence[TileMeasures],
) -> Example:
    index = int(tiles.indices[place])
    images = tiles.read(np.array([index])).images
    return Example(
        title=f"{rule} difference" if len(encoders) > 1 else f"{rule} entropy",
        tile_id=str(tiles.tile_ids[place]),
        image=images[0].permute(1, 2, 0).numpy(),
        labels=tiles.cells.labels(index),
        maps=tuple(
            _attention_map(one, kept.last_attention(place), images.shape[-1])
            for one, kept in zip(encoders, measured, strict=True)
        ),
    )


def _rolled(example: Example, encoders: Sequence[LoadedEncoder], tiles: AuditTiles, index: int) -> Example:
    """Replace the heads' average of an example by rollouts."""
    images = tiles.read(np.array([index])).images
    maps = []
    for encoder, one in zip(encoders, example.maps, strict=True):
        rollout = full_attention(encoder.model, preprocess(encoder, images)).rollout[0].cpu()
        entropy = np.append(one.entropy[:-1], m.normalised_entropy(rollout.flatten()).numpy())
        maps.append(replace(one, averaged=rollout.numpy(), entropy=entropy))
    return replace(example, maps=tuple(maps))
