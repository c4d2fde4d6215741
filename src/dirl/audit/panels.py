"""Panels of attention maps. They are deterministic, readable without colour vision, and name every scale.

Attention is always relative to uniform: 1 is what each token would get if all got the same.
Tokens are drawn as squares, never smoothed.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dirl.report.outlines import enlarge_with_edges
from dirl.report.style import STYLE, new_figure

Floats = NDArray[np.floating]

OUTLINE = np.array([255, 230, 0])
HEAT, DIFFERENCE = "inferno", "PuOr_r"
PANEL_IN, OUTLINE_SCALE = 2.05, 2


@dataclass(frozen=True)
class AttentionMap:
    """One encoder's last-block attention on a tile.

    `p` (a, gh, gw) is by head and sums to 1 over the patch tokens; for `averaged` (gh, gw) the heads are
    averaged before renormalising. `extent` is the left, top, right and bottom of the token grid, in tile
    pixels. `entropy` (a + 1,) is that of every head, then of the averaged map, normalised.
    """

    name: str
    p: Floats
    averaged: Floats
    extent: tuple[float, float, float, float]
    entropy: Floats


@dataclass(frozen=True)
class Example:
    """A tile to show, why it is shown, and a map for each encoder.

    The image is (h, w, 3), uint8; the labels (h, w) are nuclei by id, 0 none.
    """

    title: str
    tile_id: str
    image: NDArray[np.uint8]
    labels: NDArray[np.integer]
    maps: tuple[AttentionMap, ...]


def comparison_figure(examples: Sequence[Example], outlines: str = "nuclei") -> Figure:
    """Rows of tiles; columns: tile, outlines, each encoder's head-averaged attention, second minus first.

    All attention panels share one scale, which ends at the 98th percentile of their values. The difference
    has its own scale, symmetric about 0. `outlines` is the title of the outlines.
    """
    names = [each.name for each in examples[0].maps]
    changes = _changes(examples)
    top = _scale([_relative(each.averaged) for example in examples for each in example.maps])
    reach = _scale(changes, least=0.5) if changes else 0.5
    titles = ["tile", outlines, *names] + ([f"{names[1]} − {names[0]}"] if changes else [])
    titles = [_wrapped(title, 20) for title in titles]
    lines = max(title.count("\n") + 1 for title in titles)
    figure, axes = _panels(len(examples), len(titles), foot_in=0.62, head_in=0.2 + 0.14 * lines)
    for row, example in zip(axes, examples, strict=True):
        _tile(row[0], example.image)
        _tile(row[1], with_outlines(example.image, example.labels))
        row[0].set_ylabel(example.title, fontsize=8.5, labelpad=6)
        row[0].set_xlabel(example.tile_id, fontsize=7, labelpad=2, color="#6b7280")
        for axis, each in zip(row[2:], example.maps, strict=False):
            _heat(axis, each.averaged, each.extent, example.image.shape, HEAT, Normalize(0, top))
            axis.set_xlabel(f"entropy {each.entropy[-1]:.3f}", fontsize=8, labelpad=2)
    for row, example, change in zip(axes, examples, changes, strict=False):
        norm = TwoSlopeNorm(0, -reach, reach)
        _heat(row[-1], change, example.maps[0].extent, example.image.shape, DIFFERENCE, norm, raw=True)
    for axis, title in zip(axes[0], titles, strict=False):
        axis.set_title(title, fontweight="bold", fontsize=9.5 if lines == 1 else 8)
    _bar(
        figure,
        axes[-1][2 : 2 + len(names)],
        HEAT,
        Normalize(0, top),
        f"attention ÷ uniform (clipped at {top:g})",
    )
    if changes:
        _bar(figure, axes[-1][-1:], DIFFERENCE, Normalize(-reach, reach), "difference, ÷ uniform")
    return figure


def heads_figure(example: Example) -> Figure:
    """Every head of the last block on one tile: a row per encoder, one scale for all."""
    most = max(len(each.p) for each in example.maps)
    columns = min(most, 8)
    rows = [math.ceil(len(each.p) / columns) for each in example.maps]
    top = _scale([_relative(head) for each in example.maps for head in each.p])
    figure, axes = _panels(sum(rows), columns + 1, foot_in=0.62, panel_in=1.6 if columns < 7 else 1.3)
    for axis in axes.ravel():
        axis.set_axis_off()
    start = 0
    for each, height in zip(example.maps, rows, strict=True):
        lead = axes[start][0]
        lead.set_axis_on()
        _tile(lead, with_outlines(example.image, example.labels))
        lead.set_ylabel(_wrapped(each.name, 15), fontweight="bold", fontsize=8)
        for head, p in enumerate(each.p):
            axis = axes[start + head // columns][1 + head % columns]
            axis.set_axis_on()
            _heat(axis, p, each.extent, example.image.shape, HEAT, Normalize(0, top))
            axis.set_title(f"head {head}", fontsize=8, pad=3)
            axis.set_xlabel(f"entropy {each.entropy[head]:.3f}", fontsize=7.5, labelpad=2)
        start += height
    _bar(figure, axes[-1][1:], HEAT, Normalize(0, top), f"attention ÷ uniform (clipped at {top:g})")
    return figure


def with_outlines(image: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Enlarge a tile and draw a line along the border of every nucleus, touching ones too."""
    large, _, edges = enlarge_with_edges(image, labels, OUTLINE_SCALE)
    large[edges] = OUTLINE
    return large


def _relative(p: Floats) -> Floats:
    return p * p.size


def _changes(examples: Sequence[Example]) -> list[Floats]:
    """Second encoder minus first, if there are two with the same token grid."""
    pairs = [example.maps for example in examples]
    if any(len(pair) != 2 or pair[0].averaged.shape != pair[1].averaged.shape for pair in pairs):
        return []
    return [_relative(second.averaged) - _relative(first.averaged) for first, second in pairs]


def _scale(maps: Sequence[Floats], least: float = 2.0) -> float:
    """End of a shared scale: the 98th percentile of all values, in steps of a half."""
    shown = np.percentile(np.abs(np.concatenate([each.ravel() for each in maps])), 98)
    return max(least, math.ceil(2 * float(shown)) / 2)


def _panels(
    rows: int, columns: int, foot_in: float, panel_in: float = PANEL_IN, head_in: float = 0.34
) -> tuple[Figure, NDArray[Any]]:
    """Square image panels, with room at the foot for the scales."""
    gap_in, left_in = 0.27, 0.46
    width, height = left_in + columns * panel_in, head_in + rows * (panel_in + gap_in) + foot_in
    with mpl.rc_context(STYLE):
        figure = new_figure((width, height), constrained=False)
        axes = figure.subplots(
            rows,
            columns,
            squeeze=False,
            gridspec_kw={
                "left": left_in / width,
                "right": 0.995,
                "top": 1 - head_in / height,
                "bottom": (foot_in + gap_in * 0.8) / height,
                "wspace": 0.05,
                "hspace": gap_in / panel_in,
            },
        )
    for axis in axes.ravel():
        axis.set_xticks([])
        axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_visible(False)
    return figure, axes


def _tile(axis: Axes, image: NDArray[np.uint8]) -> None:
    axis.imshow(image, interpolation="lanczos")


def _heat(
    axis: Axes,
    values: Floats,
    extent: tuple[float, float, float, float],
    shape: Sequence[int],
    colours: str | Colormap,
    norm: Normalize,
    *,
    raw: bool = False,
) -> None:
    left, top, right, bottom = extent
    axis.imshow(
        values if raw else _relative(values),
        cmap=colours,
        norm=norm,
        extent=(left, right, bottom, top),
        interpolation="nearest",
    )
    axis.set_xlim(0, shape[1])
    axis.set_ylim(shape[0], 0)


def _bar(figure: Figure, axes: Sequence[Axes], colours: str, norm: Normalize, label: str) -> None:
    """Colour bar under a run of panels."""
    first, last = axes[0].get_position(), axes[-1].get_position()
    height = figure.get_figheight()
    width = min(last.x1 - first.x0, 3.2 / figure.get_figwidth())
    place = (first.x0 + (last.x1 - first.x0 - width) / 2, 0.4 / height, width, 0.11 / height)
    bar = figure.colorbar(ScalarMappable(norm, colours), cax=figure.add_axes(place), orientation="horizontal")
    bar.set_label(label, fontsize=8, labelpad=2)
    if norm.vmin == 0:  # attention: mark uniform
        top = float(norm.vmax or 1)
        steps = np.arange(0, top + 0.1) if top < 10 else np.linspace(0, top, 6)
        bar.set_ticks(sorted({*steps.round(1).tolist(), 1.0}))
        bar.ax.axvline(1, color="white", linewidth=1)
    bar.ax.tick_params(labelsize=7.5, length=2)
    bar.outline.set_visible(False)


def _wrapped(name: str, most: int) -> str:
    """Break a long name at its underscores and spaces."""
    lines = textwrap.wrap(name.replace("_", "_ "), most + name.count("_"))
    return "\n".join(line.replace("_ ", "_") for line in lines)
