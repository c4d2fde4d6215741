"""From measures of tiles to `summary.json`: means with intervals, curves by block, paired differences."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dirl.audit.table import ATTENTION, COLUMNS, MEASURES
from dirl.audit.tiles import REGIONS
from dirl.audit.titles import PRIMARY
from dirl.core.intervals import Units, interval, means, ratios

Floats = NDArray[np.floating]

VIEWS = ("per_head", "heads_averaged")
KINDS = ("encoder", "untrained", "uniform")


@dataclass
class Measured:
    """What is kept of one encoder's or control's measures while tiles stream by.

    Of every tile only the last block, with the heads' values averaged (``per_head``) and with the heads'
    attention averaged first (``heads_averaged``); of the other blocks only sums over tiles.

    Attributes
    ----------
    name, kind
        Kind is ``encoder``, ``untrained`` or ``uniform``.
    facts
        What else stands in the summary: spec, digest, token size…
    min_area
        Least share of a tile that a region must cover for the tile to count in its enrichment.
    """

    name: str
    kind: str
    facts: dict[str, Any]
    min_area: float
    last: list[Floats] = field(default_factory=list)
    area: list[Floats] = field(default_factory=list)
    sums: Floats | float = 0.0
    counts: Floats | float = 0.0
    heads: Floats | float = 0.0
    moments: Floats | float = 0.0

    def add(self, values: Floats, area: Floats, nuclei: Floats) -> None:
        """Take in a batch.

        Parameters
        ----------
        values : ndarray of shape (t, l, a + 1, columns)
            From `table.measure`.
        area : ndarray of shape (t, 3)
            Share of the tile that each region covers.
        nuclei : ndarray of shape (t, n)
            Coverage of the nuclei, for the prior contrast.
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


def describe(measured: Measured, units: Units, slides: NDArray[np.str_] | None) -> dict[str, Any]:
    """Summary of one encoder or control.

    Parameters
    ----------
    slides : ndarray of shape (t,)
        Slide of each tile; None where nobody knows.
    """
    last, areas = measured.last_block(), measured.areas()
    counted = areas >= measured.min_area
    with np.errstate(divide="ignore", invalid="ignore"):
        curve = np.asarray(measured.sums) / np.asarray(measured.counts)
        area_sums = np.where(counted, areas, 0).sum(0) / counted.sum(0)
        enriched = np.log2(curve[..., len(MEASURES) :] / area_sums)
    heads = np.asarray(measured.heads) / len(last)
    return {
        "name": measured.name,
        "kind": measured.kind,
        **measured.facts,
        "prior_contrast": measured.prior_contrast(),
        "last_block": {view: _means(last[:, i], units) for i, view in enumerate(VIEWS)},
        "enrichment": {view: _enrichment(last[:, i], areas, counted, units) for i, view in enumerate(VIEWS)},
        "entropy_of_heads": _numbers(heads[-1]),
        "entropy_by_head": [_numbers(block) for block in heads],
        "by_slide": None if slides is None else _by_slide(last, slides),
        "by_block": {
            view: {name: _numbers(curve[:, i, c]) for c, name in enumerate(MEASURES)}
            for i, view in enumerate(VIEWS)
        },
        "enrichment_by_block": {
            view: {region: _numbers(enriched[:, i, r]) for r, region in enumerate(REGIONS)}
            for i, view in enumerate(VIEWS)
        },
    }


def compare(first: Measured, other: Measured, units: Units) -> dict[str, Any]:
    """Paired differences, `other` minus `first`, on the same tiles and the same resamples."""
    a, b = first.last_block(), other.last_block()
    pair: dict[str, Any] = {"reference": first.name, "encoder": other.name}
    for i, view in enumerate(VIEWS):
        value, resampled = means((b - a)[:, i, : len(MEASURES)], units)
        pair[view] = {n: interval(value[c], resampled[:, c]) for c, n in enumerate(MEASURES)}
    pair["enrichment"] = {
        view: _intervals(
            *(
                there - here
                for here, there in zip(
                    _log_ratio(a[:, i], first.areas(), first.areas() >= first.min_area, units),
                    _log_ratio(b[:, i], other.areas(), other.areas() >= other.min_area, units),
                    strict=True,
                )
            )
        )
        for i, view in enumerate(VIEWS)
    }
    return pair


def examples(measured: Sequence[Measured], count: int) -> list[tuple[str, int]]:
    """Choose tiles to show by rule, never by hand.

    By the difference in the primary measure between the second encoder and the first, or by the measure
    itself where there is one encoder: as many of the highest as of the median and of the lowest.

    Returns
    -------
    list of (rule, place)
        Place among the audited tiles.
    """
    column = COLUMNS.index(PRIMARY)
    values = [one.last_block()[:, 0, column] for one in measured[:2]]
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


def _by_slide(last: Floats, slides: NDArray[np.str_]) -> dict[str, Any]:
    """Tiles of each slide, and their mean of the primary measure in the last block."""
    primary = last[..., COLUMNS.index(PRIMARY)]
    return {
        slide: {"tiles": int(here.sum())} | dict(zip(VIEWS, _numbers(primary[here].mean(0)), strict=True))
        for slide in np.unique(slides).tolist()
        for here in [slides == slide]
    }


def _means(values: Floats, units: Units) -> dict[str, Any]:
    value, resampled = means(values[:, : len(MEASURES)], units)
    return {name: interval(value[c], resampled[:, c]) for c, name in enumerate(MEASURES)}


def _enrichment(values: Floats, areas: Floats, counted: NDArray[np.bool_], units: Units) -> dict[str, Any]:
    return _intervals(*_log_ratio(values, areas, counted, units))


def _log_ratio(
    values: Floats, areas: Floats, counted: NDArray[np.bool_], units: Units
) -> tuple[Floats, Floats]:
    attention = values[:, len(MEASURES) : len(MEASURES) + len(ATTENTION)]
    value, resampled = ratios(np.where(counted, attention, 0), np.where(counted, areas, 0), units)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log2(value), np.log2(resampled)


def _intervals(value: Floats, resampled: Floats) -> dict[str, Any]:
    return {region: interval(value[r], resampled[:, r]) for r, region in enumerate(REGIONS)}


def _numbers(values: Floats) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]
