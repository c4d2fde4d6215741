"""From the measures of tiles to means with intervals, curves by block, and paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.audit.findings import PRIMARY, Audited, Difference, Estimates, SlideMeans, SubjectFacts, head_views
from dirl.audit.spread import match_temperature
from dirl.audit.table import ATTENTION, COLUMNS, MEASURES
from dirl.audit.tiles import REGIONS
from dirl.core.intervals import Estimate, Units, estimate, means, ratios
from dirl.encoders.attention import AttentionRows

Floats = NDArray[np.floating]
MATCHED = 64


@dataclass
class TileMeasures:
    """Measures of one encoder or control, collected batch by batch.

    For every tile only the measures of the last block are kept, per head and of the joint map. For the other
    blocks only sums over tiles are kept. A tile counts in the enrichment of a region that covers at least the
    share `min_area` of it. The last block's attention on patch tokens is kept for pictures and to match
    temperatures, and the embeddings for the gate.
    """

    facts: SubjectFacts
    min_area: float
    last: list[Floats] = field(default_factory=list)
    area: list[Floats] = field(default_factory=list)
    sums: Floats | float = 0.0
    counts: Floats | float = 0.0
    heads: Floats | float = 0.0
    moments: Floats | float = 0.0
    attention: list[Tensor] = field(default_factory=list)
    embeddings: list[Tensor] = field(default_factory=list)
    training: list[Floats] = field(default_factory=list)

    def keep(self, rows: AttentionRows) -> None:
        """Keep the last block's attention on patch tokens, and the embeddings."""
        self.attention.append(rows.patches[:, -1].cpu())
        if rows.output is not None:
            self.embeddings.append(rows.output.float().cpu())

    def last_attention(self, place: int) -> Tensor:
        """The last block's attention (a, gh, gw) on one tile, by its place among the audited tiles."""
        return torch.cat(self.attention)[place]

    def matched(self) -> Tensor:
        """The attention (t, a, n) of the first `MATCHED` tiles."""
        return torch.cat(self.attention)[:MATCHED].flatten(2)

    def add(self, values: Floats, area: Floats, nuclei: Floats) -> None:
        """Add a batch: values (t, l, a + 1, columns) of `table.measure`, and the area (t, 3) of each region.

        `nuclei` (t, n) is the coverage of the nuclei, for the prior contrast.
        """
        # (t, l, view, columns). Mean over heads of NaN columns (head diversity) stays NaN.
        views = np.stack([values[:, :, :-1].mean(2), values[:, :, -1]], axis=2).astype(np.float64)
        self.last.append(views[:, -1])
        self.area.append(area)
        counted = ~np.isnan(views)
        counted[..., len(MEASURES) :] &= (area >= self.min_area)[:, None, None]
        self.sums = self.sums + np.where(counted, views, 0).sum(0)
        self.counts = self.counts + counted.sum(0)
        self.heads = self.heads + values[:, :, :-1, COLUMNS.index(PRIMARY)].sum(0, dtype=np.float64)
        c = nuclei.astype(np.float64)
        self.moments = self.moments + np.array([c.size, c.sum(), (c**2).sum()])

    def last_block(self) -> Floats:
        """Values of the last block, shape (t, view, columns)."""
        return np.concatenate(self.last)

    def areas(self) -> Floats:
        """Share of every tile that each region covers, shape (t, 3)."""
        return np.concatenate(self.area)

    def prior_contrast(self) -> float | None:
        """``Var(c) / (c̄ (1 - c̄))`` of the nuclei's coverage at this token size."""
        size, total, squares = self.moments if isinstance(self.moments, np.ndarray) else (1, 0, 0)
        mean = total / size
        return float((squares / size - mean**2) / (mean * (1 - mean))) if 0 < mean < 1 else None


def summarise_measures(measured: TileMeasures, units: Units, slides: NDArray[np.str_] | None) -> Audited:
    """Summarise one encoder or control; `slides` (t,) are those of its tiles, None if they are unknown."""
    last, areas = measured.last_block(), measured.areas()
    counted = areas >= measured.min_area
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.asarray(measured.sums) / np.asarray(measured.counts)
        area_sums = np.where(counted, areas, 0).sum(0) / counted.sum(0)
        enriched = np.log2(curve[..., len(MEASURES) :] / area_sums)
    heads = np.asarray(measured.heads) / len(last)
    return Audited(
        **dict(measured.facts),
        blocks=curve.shape[0],
        heads=heads.shape[1],
        prior_contrast=measured.prior_contrast(),
        last_block=head_views(lambda i: _means(last[:, i], units)),
        enrichment=head_views(lambda i: _by_region(*_log_ratio(last[:, i], areas, counted, units))),
        entropy_training=_training(measured, units),
        entropy_of_heads=_numbers(heads[-1]),
        entropy_by_head=[_numbers(block) for block in heads],
        by_slide=None if slides is None else _by_slide(last, slides),
        by_block=head_views(lambda i: {name: _numbers(curve[:, i, c]) for c, name in enumerate(MEASURES)}),
        enrichment_by_block=head_views(
            lambda i: {region: _numbers(enriched[:, i, r]) for r, region in enumerate(REGIONS)}
        ),
    )


def paired_difference(first: TileMeasures, other: TileMeasures, units: Units) -> Difference:
    """Paired differences, `other` minus `first`, on the same tiles and the same resamples."""
    a, b = first.last_block(), other.last_block()
    aim = float(b[:MATCHED, 1, COLUMNS.index(PRIMARY)].mean())

    def change(view: int) -> Estimates:
        here = _log_ratio(a[:, view], first.areas(), first.areas() >= first.min_area, units)
        there = _log_ratio(b[:, view], other.areas(), other.areas() >= other.min_area, units)
        return _by_region(there[0] - here[0], there[1] - here[1])

    return Difference(
        reference=first.facts.name,
        encoder=other.facts.name,
        per_head=_means((b - a)[:, 0], units),
        joint=_means((b - a)[:, 1], units),
        enrichment=head_views(change),
        temperature=match_temperature(first.matched(), aim),
    )


def _training(measured: TileMeasures, units: Units) -> Estimate | None:
    if not measured.training:
        return None
    value, resampled = means(np.concatenate(measured.training)[:, None], units)
    return estimate(value[0], resampled[:, 0])


def choose_examples(measured: Sequence[TileMeasures], count: int) -> list[tuple[str, int]]:
    """Choose tiles to show by rule, never by hand.

    The rule ranks tiles by the difference in the primary measure between the second encoder and the first.
    With one encoder it ranks them by the measure itself. The highest, the median and the lowest are shown,
    equally many of each. Each tile is returned as its rule and its place among the audited tiles.
    """
    column = COLUMNS.index(PRIMARY)
    values = [one.last_block()[:, 1, column] for one in measured[:2]]
    score = values[1] - values[0] if len(values) == 2 else values[0]
    order = np.argsort(score, kind="stable")
    middle = np.argsort(np.abs(score - np.median(score)), kind="stable")
    ranked = {"highest": order[::-1], "median": middle, "lowest": order}
    chosen: list[tuple[str, int]] = []
    for step in range(len(order)):
        for rule, places in ranked.items():
            taken = {place for _, place in chosen}
            if len(chosen) < count and int(places[step]) not in taken:
                chosen.append((rule, int(places[step])))
    return sorted(chosen, key=lambda one: list(ranked).index(one[0]))


def _by_slide(last: Floats, slides: NDArray[np.str_]) -> dict[str, SlideMeans]:
    primary = last[..., COLUMNS.index(PRIMARY)]
    found = {}
    for slide in np.unique(slides).tolist():
        here = slides == slide
        per_head, averaged = _numbers(primary[here].mean(0))
        found[slide] = SlideMeans(tiles=int(here.sum()), per_head=per_head, joint=averaged)
    return found


def _means(values: Floats, units: Units) -> Estimates:
    value, resampled = means(values[:, : len(MEASURES)], units)
    return {name: estimate(value[c], resampled[:, c]) for c, name in enumerate(MEASURES)}


def _log_ratio(
    values: Floats, areas: Floats, counted: NDArray[np.bool_], units: Units
) -> tuple[Floats, Floats]:
    attention = values[:, len(MEASURES) : len(MEASURES) + len(ATTENTION)]
    value, resampled = ratios(np.where(counted, attention, 0), np.where(counted, areas, 0), units)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(value), np.log2(resampled)


def _by_region(value: Floats, resampled: Floats) -> Estimates:
    return {region: estimate(value[r], resampled[:, r]) for r, region in enumerate(REGIONS)}


def _numbers(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
