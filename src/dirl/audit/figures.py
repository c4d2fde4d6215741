"""The figures of an audit: which tiles are shown, and their attention maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from dirl.audit.charts import depth_figure, enrichment_figure, trust_figure
from dirl.audit.confounder import Marked
from dirl.audit.findings import Findings, SubjectFacts
from dirl.audit.panels import AttentionMap, Example, comparison_figure, heads_figure
from dirl.audit.passes import TileMeasures
from dirl.audit.summary import MapTrust, ShownTile
from dirl.audit.tiles import AuditTiles
from dirl.encoders import measures as m
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
    measured: Sequence[TileMeasures],
    tiles: AuditTiles,
    shown: Sequence[tuple[str, int]],
    advance: Callable[[], None] = lambda: None,
) -> Figures:
    """Draw all figures of an audit, of tiles by rule and place from `estimates.choose_examples`.

    `measured` are the encoders, without their controls. `advance` is called after each figure.
    """
    chosen = [_example(measured, tiles, rule, place) for rule, place in shown]
    middle = next((i for i, (rule, _) in enumerate(shown) if rule == "median"), 0)
    first, second = measured[0].facts.name, measured[min(len(measured), 2) - 1].facts.name
    figures = {}
    if chosen:
        figures["comparison"] = {"png": encode(comparison_figure(chosen), "png", 120)}
        advance()
        figures["heads"] = {"png": encode(heads_figure(chosen[middle]), "png", 120)}
        advance()
    if chosen and found.full:
        rolled = [_rolled(one, measured, place) for one, (_, place) in zip(chosen, shown, strict=True)]
        figures["rollout"] = {"png": encode(comparison_figure(rolled), "png", 120)}
    charts = {"depth": depth_figure(found.encoders), "enrichment": enrichment_figure(found.encoders)}
    for name, figure in charts.items():
        png = encode(figure, "png", 160)
        figure.set_layout_engine("none")  # the places are found, and finding them takes long
        figures[name] = {"png": png, "svg": encode(figure, "svg")}
        advance()
    return Figures(
        rule=RULES[min(len(measured), 2)].format(a=first, b=second),
        tiles=[ShownTile(title=one.title, tile_id=one.tile_id) for one in chosen],
        middle=middle,
        figures=figures,
    )


def draw_trust(found: Sequence[MapTrust]) -> dict[str, bytes]:
    """Draw the stability of the maps and how they rank nuclei, as PNG and SVG."""
    figure = trust_figure(found)
    png = encode(figure, "png", 160)
    figure.set_layout_engine("none")  # the places are found, and finding them takes long
    return {"png": png, "svg": encode(figure, "svg")}


def draw_marks(measured: Sequence[TileMeasures], tiles: AuditTiles, found: Marked) -> bytes:
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
                maps=tuple(
                    attention_map(one.facts, attention[found.marks.row(place)], inked.shape[-1])
                    for one, attention in zip(measured, found.attention, strict=True)
                ),
            )
        )
    return encode(comparison_figure(examples, outlines="mark"), "png", 120)


def attention_map(facts: SubjectFacts, attention: Tensor, side_px: int) -> AttentionMap:
    """The last block's attention (a, gh, gw) of an encoder on one tile of this side, to be drawn."""
    _, p = m.renormalise(attention.flatten(1))
    _, averaged = m.renormalise(attention.flatten(1).mean(0))
    high, wide = (side_px, side_px) if facts.input_px else (n * facts.patch_px for n in facts.grid)
    left, top = (side_px - wide) // 2, (side_px - high) // 2
    return AttentionMap(
        name=facts.name,
        p=p.view(-1, *facts.grid).numpy(),
        averaged=averaged.view(*facts.grid).numpy(),
        extent=(left, top, left + wide, top + high),
        entropy=np.append(m.normalised_entropy(p).numpy(), m.normalised_entropy(averaged).numpy()),
    )


def _example(measured: Sequence[TileMeasures], tiles: AuditTiles, rule: str, place: int) -> Example:
    index = int(tiles.indices[place])
    image = tiles.store.image(index)
    return Example(
        title=f"{rule} difference" if len(measured) > 1 else f"{rule} entropy",
        tile_id=str(tiles.tile_ids[place]),
        image=image,
        labels=tiles.cells.labels(index),
        maps=tuple(attention_map(one.facts, one.attention[place], image.shape[1]) for one in measured),
    )


def _rolled(example: Example, measured: Sequence[TileMeasures], place: int) -> Example:
    """Replace the heads' average of an example by rollouts."""
    maps = []
    for one, drawn in zip(measured, example.maps, strict=True):
        assert one.rollouts is not None, "only drawn of whole matrices"
        rollout = one.rollouts[place]
        entropy = np.append(drawn.entropy[:-1], m.normalised_entropy(rollout.flatten()).numpy())
        maps.append(replace(drawn, averaged=rollout.numpy(), entropy=entropy))
    return replace(example, maps=tuple(maps))
