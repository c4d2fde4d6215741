"""The figures of a report on cells: outlines on tiles, and charts of the statistics."""

import colorsys
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from dirl.cells.quality.statistics import AREA_STEP_UM2, COVERAGE_STEPS
from dirl.cells.report.outliers import slide_value
from dirl.cells.report.summary import SegmenterStatistics
from dirl.report.outlines import enlarge_with_edges
from dirl.report.style import COLOURS, STYLE, new_figure

GRID = "#e3e6ea"
ENLARGE = 2
# Visible on hematoxylin and on eosin. The first is for nuclei without a class. More classes get made colours.
OUTLINES = ("#ffe600", "#00e5ff", "#39ff14", "#ff7b00", "#ffffff", "#ff4dd2")
DASHES = ("-", "--", ":", "-.")
MOST_LABELS = 40


def draw_outlines(
    image: NDArray[np.uint8], labels: NDArray[np.int32], classes: Mapping[int, int]
) -> NDArray[np.uint8]:
    """Enlarge a tile (h, w, 3) and outline its labels (h, w).

    `classes` gives the number of the colour of each id; other ids have 0.
    """
    large, ids, edges = enlarge_with_edges(image, labels, ENLARGE)
    # A line covers both sides of a border. Outside it takes the colour of the adjacent nucleus.
    beside = maximum_filter(ids, 3)
    number, which = np.unique(beside[edges], return_inverse=True)
    colours = np.array([_rgb(_outline(classes.get(i, 0))) for i in number.tolist()], np.uint8)
    large[edges] = colours.reshape(-1, 3)[which]
    return large


def class_colours(classes: Sequence[str]) -> dict[str, str]:
    """Return the colour of each class, and of nuclei without one. No two classes share a colour."""
    names = ["no class", *classes]
    return {name: _outline(i) for i, name in enumerate(names)}


def _outline(number: int) -> str:
    if number < len(OUTLINES):
        return OUTLINES[number]
    # The golden ratio spreads hues evenly, however many there are.
    hue = (number * 0.618034) % 1
    return to_hex(colorsys.hsv_to_rgb(hue, 0.45 if number % 2 else 1.0, 1.0))


def slides_figure(summaries: Mapping[str, SegmenterStatistics], outliers: set[str]) -> Figure:
    """Density, size, coverage and empty tiles of every slide, by set of cells; outliers are named."""
    panels = (
        ("nuclei_per_mm2", "nuclei per mm² of tissue"),
        ("median_um2", "median area, µm²"),
        ("coverage", "share of the tissue covered, %"),
        ("empty", "tiles without nuclei, %"),
    )
    slides = list(next(iter(summaries.values())).slides)
    labelled = slides if len(slides) <= MOST_LABELS else [s for s in slides if s in outliers]
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, max(2.4, 1.3 + 0.2 * min(len(slides), MOST_LABELS))))
        axes = figure.subplots(1, len(panels), sharey=True)
        for axis, (name, title) in zip(axes, panels, strict=True):
            for k, (cells, summary) in enumerate(summaries.items()):
                values = [slide_value(summary.slides[slide], name) for slide in slides]
                places = np.arange(len(slides)) + 0.5 * (k - (len(summaries) - 1) / 2) / len(summaries)
                found = [(v, y) for v, y in zip(values, places, strict=True) if v is not None]
                colour = COLOURS[k % len(COLOURS)]
                axis.plot(*zip(*found, strict=True) if found else ([], []), "o", color=colour, markersize=4,
                          label=cells, clip_on=False)  # fmt: skip
            axis.set_title(title, loc="left")
            axis.set_xlim(0, max(10, axis.get_xlim()[1]))
            axis.grid(color=GRID, linewidth=0.7)
            axis.set_axisbelow(True)
        axes[0].set_yticks([slides.index(slide) for slide in labelled], [_short(slide) for slide in labelled])
        axes[0].set_ylim(len(slides) - 0.4, -0.6)
        for tick, slide in zip(axes[0].get_yticklabels(), labelled, strict=True):
            if slide in outliers:
                tick.set_color(COLOURS[1])
                tick.set_fontweight("bold")
        _legend(figure, axes[0], summaries)
    return figure


def histograms_figure(summaries: Mapping[str, SegmenterStatistics]) -> Figure:
    """Areas of nuclei and coverage of tiles over the whole store, as shares, by set of cells."""
    panels = (
        ("area_histogram", AREA_STEP_UM2, "area of a nucleus, µm² (the last: and above)", "of nuclei"),
        ("coverage_histogram", 100 / COVERAGE_STEPS, "share of a tile's tissue covered, %", "of tiles"),
    )
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, 3.1))
        axes = figure.subplots(1, 2)
        for axis, (name, step, label, of_what) in zip(axes, panels, strict=True):
            for k, (cells, summary) in enumerate(summaries.items()):
                counts = np.array(getattr(summary.all, name), float)
                shares = 100 * counts / max(counts.sum(), 1)
                edges = np.arange(len(shares) + 1) * step
                colour, dashes = COLOURS[k % len(COLOURS)], DASHES[k % len(DASHES)]
                axis.stairs(shares, edges, color=colour, linestyle=dashes, linewidth=1.8, label=cells)
            axis.set_xlim(0)
            axis.set_ylim(0)
            axis.set_xlabel(label)
            axis.set_title(f"% {of_what}", loc="left")
            axis.grid(axis="y", color=GRID, linewidth=0.7)
        _legend(figure, axes[0], summaries)
    return figure


def _legend(figure: Figure, axis: Axes, summaries: Mapping[str, SegmenterStatistics]) -> None:
    if len(summaries) > 1:
        handles, labels = axis.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(summaries), frameon=False)


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"{name[:13]}…{name[-14:]}"


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[k : k + 2], 16) for k in (1, 3, 5))
