"""From the measures of tiles to means with intervals, curves by block, and paired differences."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dirl.audit.findings import PRIMARY, Audited, Difference, Estimates, SlideMeans, head_views
from dirl.audit.passes import TileMeasures
from dirl.audit.spread import match_temperature
from dirl.audit.table import ATTENTION, COLUMNS, MEASURES
from dirl.audit.tiles import REGIONS
from dirl.core.intervals import Estimate, Units, estimate, means, ratios

Floats = NDArray[np.floating]
MATCHED = 64
"""Number of tiles on which temperatures are matched."""


def summarise_measures(measured: TileMeasures, units: Units, slides: NDArray[np.str_] | None) -> Audited:
    """Summarise one encoder or control; `slides` (t,) are those of its tiles, None if they are unknown."""
    last, areas = measured.last_block(), measured.areas
    counted = areas >= measured.min_area
    known = ~np.isnan(measured.views)
    known[..., len(MEASURES) :] &= counted[:, None, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.where(known, measured.views, 0).sum(0, dtype=np.float64) / known.sum(0)
        area_sums = np.where(counted, areas, 0).sum(0) / counted.sum(0)
        enriched = np.log2(curve[..., len(MEASURES) :] / area_sums)
    heads = measured.entropies.mean(0, dtype=np.float64)
    return Audited(
        **dict(measured.facts),
        blocks=curve.shape[0],
        heads=heads.shape[1],
        prior_contrast=prior_contrast(measured.nuclei),
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
        here = _log_ratio(a[:, view], first.areas, first.areas >= first.min_area, units)
        there = _log_ratio(b[:, view], other.areas, other.areas >= other.min_area, units)
        return _by_region(there[0] - here[0], there[1] - here[1])

    return Difference(
        reference=first.facts.name,
        encoder=other.facts.name,
        per_head=_means((b - a)[:, 0], units),
        joint=_means((b - a)[:, 1], units),
        enrichment=head_views(change),
        temperature=match_temperature(first.attention[:MATCHED].flatten(2), aim),
    )


def prior_contrast(nuclei: Floats) -> float | None:
    """``Var(c) / (c̄ (1 - c̄))`` of the nuclei's coverage c of tokens (t, n)."""
    c = nuclei.astype(np.float64)
    mean = c.mean()
    return float(c.var() / (mean * (1 - mean))) if 0 < mean < 1 else None


def _training(measured: TileMeasures, units: Units) -> Estimate | None:
    if measured.training is None:
        return None
    value, resampled = means(measured.training[:, None], units)
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
