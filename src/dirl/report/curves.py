"""ROC and precision–recall curves with intervals, as figures of reports."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve, roc_curve

from dirl.core.intervals import Units
from dirl.report.style import COLOURS, STYLE, UNIFORM, new_figure

GRID = np.linspace(0, 1, 101)
DRAWS = 200
"""Resamples of the units for the bands."""

Floats = NDArray[np.float64]


def roc(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    """Share of the true ones that are found, at each share of `GRID` of false alarms."""
    false, true, _ = roc_curve(truth, scores)
    return np.asarray(np.interp(GRID, false, true))


def precision(truth: NDArray[np.bool_], scores: Floats) -> Floats:
    """Precision at each share of `GRID` of the true ones that are found.

    Several thresholds can find the same share. The one with the fewest false alarms counts.
    """
    values, found, _ = precision_recall_curve(truth, scores)
    shares, which = np.unique(found, return_inverse=True)
    best = np.zeros(len(shares))
    np.maximum.at(best, which, values)
    return np.asarray(np.interp(GRID, shares, best))


def band(truth: NDArray[np.bool_], scores: Floats, units: Units, curve: str) -> tuple[Floats, Floats, Floats]:
    """Return a curve and the ends of its 95 % band, over units drawn with replacement.

    Draws that lack the class, or have only it, are left out.
    """
    make = {"roc": roc, "precision": precision}[curve]
    generator = np.random.default_rng(units.seed)
    of_unit = [np.flatnonzero(units.of_tile == unit) for unit in range(len(units))]
    drawn = []
    for _ in range(DRAWS):
        rows = np.concatenate([of_unit[unit] for unit in generator.integers(0, len(units), len(units))])
        if truth[rows].any() and not truth[rows].all():
            drawn.append(make(truth[rows], scores[rows]))
    value = make(truth, scores)
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0) if drawn else (value, value)
    return value, low, high


def curves_figure(truth: NDArray[np.int64], scores: Floats, names: Sequence[str], units: Units) -> Figure:
    """Draw ROC and precision–recall curves of each class against the others.

    `truth` (n,) are numbers of classes, `scores` (n, classes) their scores. With two classes the second is
    drawn, since the first is its mirror image. A class without items, or with all of them, has no curve.
    """
    shown = range(1, 2) if len(names) == 2 else range(len(names))
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, 4.2))
        left, right = figure.subplots(1, 2)
        for place, number in enumerate(shown):
            own = truth == number
            if not own.any() or own.all():
                continue
            for axis, curve in ((left, "roc"), (right, "precision")):
                value, low, high = band(own, scores[:, number], units, curve)
                colour = COLOURS[place % len(COLOURS)]
                axis.plot(GRID, value, color=colour, label=names[number])
                axis.fill_between(GRID, low, high, color=colour, alpha=0.18, linewidth=0)
        left.plot([0, 1], [0, 1], color=UNIFORM, linestyle=":", linewidth=1)
        _frame(left, "ROC", "false alarms, share", "found, share")
        _frame(right, "Precision and recall", "found, share", "precision")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _frame(axis: Axes, title: str, x: str, y: str) -> None:
    axis.set_title(title, loc="left")
    axis.set_xlabel(x)
    axis.set_ylabel(y)
    axis.set_xlim(-0.01, 1.01)
    axis.set_ylim(-0.01, 1.01)
    axis.grid(color="#e3e6ea", linewidth=0.7)
