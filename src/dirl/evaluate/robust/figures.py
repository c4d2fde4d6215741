"""Robustness as curves: score and drift by severity for each corruption, and by angle."""

from collections.abc import Sequence
from dataclasses import astuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dirl.evaluate.robust.conditions import ANGLES, CLEAN, ROTATION, Condition
from dirl.evaluate.robust.summary import RobustSummary
from dirl.features.baselines import FEATURES, TITLES, Baseline
from dirl.report.style import COLOURS, CONTROL, INK, STYLE, encode, new_figure

STYLES = {
    FEATURES: (COLOURS[0], "-"),
    Baseline.UNTRAINED: (CONTROL, "--"),
    Baseline.COLOUR_HISTOGRAM: (COLOURS[4], ":"),
}
COLUMNS = 5


def draw_curves(summary: RobustSummary) -> dict[str, bytes]:
    """Draw all figures of a `dirl robust`, by file name."""
    with mpl.rc_context(STYLE):
        figures: dict[str, Figure] = {}
        if any(kind != ROTATION for kind in summary.damage):
            figures["score"] = _corruptions(summary, "linear", "balanced accuracy, linear")
            figures["drift"] = _corruptions(summary, "drift_share", "drift, share of spread")
        if ROTATION in summary.damage:
            figures["rotation"] = _rotation(summary)
        return {
            f"{name}.{kind}": encode(figure, kind, 130)
            for name, figure in figures.items()
            for kind in ("png", "svg")
        }


def _corruptions(summary: RobustSummary, measure: str, title: str) -> Figure:
    kinds = [kind for kind in summary.damage if kind != ROTATION]
    severities = sorted(summary.severities)
    columns = min(COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = new_figure((max(5.0, 0.6 + 1.8 * columns), 0.9 + 1.9 * rows))
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axis in axes.ravel()[len(kinds) :]:
        axis.set_axis_off()
    for axis, kind in zip(axes.ravel(), kinds, strict=False):
        shown = [Condition(CLEAN), *(Condition(kind, severity) for severity in severities)]
        for name in _lines(summary):
            _line(axis, summary, name, [0, *severities], shown, measure)
        axis.set_title(kind, loc="left")
    _chance(axes.ravel().tolist(), summary, measure)
    for axis in axes[:, 0]:
        axis.set_ylabel(title)
    for axis in axes.ravel()[max(0, len(kinds) - columns) : len(kinds)]:  # the lowest of each column
        axis.set_xlabel("severity")
        axis.set_xticks([0, *severities])
        axis.tick_params(labelbottom=True)
    _legend(figure, axes[0, 0])
    return figure


def _rotation(summary: RobustSummary) -> Figure:
    figure = new_figure((6.8, 2.9))
    axes = figure.subplots(1, 2, sharex=True)
    shown = [*(Condition(ROTATION, angle) for angle in ANGLES), Condition(ROTATION)]
    titles = {"linear": "balanced accuracy, linear", "drift_share": "drift, share of spread"}
    for axis, (measure, title) in zip(axes, titles.items(), strict=True):
        for name in _lines(summary):
            _line(axis, summary, name, [*ANGLES, 360], shown, measure)
        axis.set_ylabel(title)
        axis.set_xlabel("angle in degrees")
        axis.set_xticks(range(0, 361, 90))
        _chance([axis], summary, measure)
    _legend(figure, axes[0])
    return figure


def _lines(summary: RobustSummary) -> list[str]:
    return [name for name in STYLES if name in summary.results]


def _line(
    axis: Axes,
    summary: RobustSummary,
    name: str,
    places: Sequence[int],
    conditions: Sequence[Condition],
    measure: str,
) -> None:
    colour, dashes = STYLES[name]
    measured = [astuple(getattr(summary.results[name].at(condition), measure)) for condition in conditions]
    value, low, high = np.array(measured, float).T
    axis.fill_between(places, low, high, color=colour, alpha=0.15, linewidth=0)
    axis.plot(places, value, dashes, color=colour, linewidth=1.4, label=TITLES[name])
    axis.grid(axis="y", color="#e3e6ea", linewidth=0.7)


def _chance(axes: Sequence[Axes], summary: RobustSummary, measure: str) -> None:
    if measure == "linear":
        for axis in axes:
            axis.axhline(summary.chance, color=INK, linewidth=0.7)


def _legend(figure: Figure, axis: Axes) -> None:
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
