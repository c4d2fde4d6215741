"""Figures of a study: every seed as a point, planned differences with intervals, training curves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dirl.pretrain.read_run import read_metrics
from dirl.report.style import COLOURS, CONTROL, INK, STYLE, encode, new_figure
from dirl.study.measures import PRIMARY, TITLES
from dirl.study.summary import RunRow, StudySummary

SHOWN = (PRIMARY, "gini", "components50", "enrichment_nuclei", "enrichment_glass", "knn", "linear")
CURVES = {
    "loss": "loss",
    "attention/entropy_joint": "entropy, joint map",
    "attention/entropy_per_head": "entropy per head",
    "embedding/rank": "embedding rank",
}
DASHES = ("-", "--", ":", "-.")
GRID = "#e3e6ea"
PANEL_IN = 1.75
LEAST_REACH = 0.01  # of an axis of differences, so that one of 0.00001 does not look large


def draw_study(summary: StudySummary, metrics: Mapping[str, Path]) -> dict[str, bytes]:
    """Draw all figures of a study, as bytes by file name. `metrics` holds each run's ``metrics.csv``."""
    figures = {"arms": arms_figure(summary), "curves": curves_figure(summary, metrics)}
    if summary.planned:
        figures["contrasts"] = contrasts_figure(summary)
    return {
        f"{name}.{kind}": encode(figure, kind, 130)
        for name, figure in figures.items()
        for kind in ("png", "svg")
    }


def arms_figure(summary: StudySummary) -> Figure:
    """Draw the measures by arm, with a column of panels for each objective.

    A point is a seed, filled if it passed the gate; a line joins the points of one seed; a bar is the mean.
    Dashed: the same architecture untrained.
    """
    arms = _arms(summary)
    names = [name for name in SHOWN if any(run.measures.get(name) is not None for run in summary.runs)]
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(names), summary.objectives, width_in=0.9 + 0.42 * len(arms))
        for row, name in zip(axes, names, strict=False):  # one empty row if nothing worked
            row[0].set_ylabel(TITLES[name])
            _one_scale(row)
            for axis, objective in zip(row, summary.objectives, strict=True):
                runs = [run for run in summary.runs if run.objective == objective]
                _dots(axis, arms, runs, name)
        for axis in axes[-1]:
            axis.set_xticks(range(len(arms)), arms, rotation=60, ha="right", rotation_mode="anchor")
    return figure


def curves_figure(summary: StudySummary, metrics: Mapping[str, Path]) -> Figure:
    """Draw loss, attention and rank over training: a line for each run, a colour for each arm.

    A run with a start begins where the start ends. Losses have a scale for each objective, since losses of
    different objectives cannot be compared.
    """
    arms = _arms(summary)
    logged = {name: read_metrics(path) for name, path in metrics.items()}
    starts = {
        (run.objective, run.seed): logged[run.run][-1]["step"]
        for run in summary.runs
        if run.kind == "start" and logged.get(run.run)
    }
    kinds = [kind for kind in CURVES if any(kind in line for lines in logged.values() for line in lines)]
    with mpl.rc_context(STYLE):
        figure, axes = _panels(len(kinds) or 1, summary.objectives, width_in=2.6)
        for row, kind in zip(axes, kinds, strict=False):
            row[0].set_ylabel(CURVES[kind])
            if kind != "loss":
                _one_scale(row)
            for axis, objective in zip(row, summary.objectives, strict=True):
                for run in summary.runs:
                    lines = [line for line in logged.get(run.run, []) if kind in line]
                    if run.objective == objective and lines:
                        place = arms.index(run.arm)
                        begins = 0 if run.kind == "start" else starts.get((objective, run.seed), 0)
                        axis.plot(
                            [begins + line["step"] for line in lines],
                            [line[kind] for line in lines],
                            color=COLOURS[place % len(COLOURS)],
                            linestyle=DASHES[place // len(COLOURS) % len(DASHES)],
                            linewidth=1.0,
                            alpha=0.85,
                            label=run.arm,
                        )
                axis.grid(axis="y", color=GRID, linewidth=0.7)
        for axis in axes[-1]:
            axis.set_xlabel("step")
            # The last label would be cut off.
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True, prune="upper"))
        handles = {
            label: handle
            for axis in axes.ravel()
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
        }
        if handles:
            figure.legend(
                [handles[arm] for arm in arms if arm in handles],
                [arm for arm in arms if arm in handles],
                loc="outside lower center",
                ncols=2 * len(summary.objectives),
                frameon=False,
            )
    return figure


def contrasts_figure(summary: StudySummary) -> Figure:
    """Draw the planned differences in the primary measures, one panel each: seeds, mean and 95 % interval."""
    planned, names = summary.planned, summary.primary
    with mpl.rc_context(STYLE):
        figure = new_figure((3.4 + 3.4 * len(names), 0.9 + 0.3 * len(planned)))
        axes = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
        for axis, name in zip(axes, names, strict=True):
            _differences(axis, summary, name)
        axes[0].set_yticks(
            range(len(planned)), [f"{one.objective}: {one.arm} − {one.against}" for one in planned]
        )
        axes[0].set_ylim(len(planned) - 0.4, -0.6)  # the first on top, and no marker is cut off
    return figure


def _differences(axis: Axes, summary: StudySummary, name: str) -> None:
    values = {(run.objective, run.arm, run.seed): run.measures.get(name) for run in summary.runs}
    for y, one in enumerate(summary.planned):
        measured = one.measures[name]
        for seed in summary.seeds:
            a, b = (values.get((one.objective, arm, seed)) for arm in (one.arm, one.against))
            if a is not None and b is not None:
                axis.plot(a - b, y, "o", color="white", markeredgecolor=COLOURS[0], markersize=4, zorder=2)
        if measured.low is not None and measured.high is not None:
            axis.hlines(y, measured.low, measured.high, color=INK, linewidth=1.4)
        if measured.difference is not None:
            axis.plot(measured.difference, y, "D", color=INK, markersize=5, zorder=3)
    axis.axvline(0, color=CONTROL, linewidth=1)
    low, high = axis.get_xlim()
    axis.set_xlim(min(low, -LEAST_REACH), max(high, LEAST_REACH))
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.set_xlabel(f"difference in {TITLES[name]}")
    axis.grid(axis="x", color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)


def _dots(axis: Axes, arms: list[str], runs: list[RunRow], name: str) -> None:
    places = {arm: place for place, arm in enumerate(arms)}
    measured = [(run, value) for run in runs if (value := run.measures.get(name)) is not None]
    for seed in sorted({run.seed for run, _ in measured}):
        line = sorted((places[run.arm], value) for run, value in measured if run.seed == seed)
        axis.plot(*zip(*line, strict=True), color=CONTROL, linewidth=0.6, zorder=1)
    for run, value in measured:
        colour = COLOURS[places[run.arm] % len(COLOURS)]
        axis.plot(
            places[run.arm],
            value,
            "o",
            color=colour if run.passes else "white",
            markeredgecolor=colour,
            markersize=4.5,
            zorder=3,
        )
    for arm, place in places.items():
        if values := [value for run, value in measured if run.arm == arm]:
            axis.hlines(float(np.mean(values)), place - 0.32, place + 0.32, color=INK, linewidth=1.6)
    untrained = [run.measures.get(f"{name}_untrained") for run, _ in measured]
    if given := [value for value in untrained if value is not None]:
        axis.axhline(float(np.mean(given)), color=CONTROL, linestyle="--", linewidth=1)
    axis.set_xlim(-0.6, len(arms) - 0.4)
    axis.grid(axis="y", color=GRID, linewidth=0.7)
    axis.set_axisbelow(True)


def _panels(rows: int, objectives: list[str], width_in: float) -> tuple[Figure, np.ndarray[Any, Any]]:
    figure = new_figure((0.8 + width_in * len(objectives), 1.2 + PANEL_IN * max(1, rows)))
    axes = figure.subplots(max(1, rows), len(objectives), squeeze=False, sharex=True)
    for axis, objective in zip(axes[0], objectives, strict=True):
        axis.set_title(objective, loc="left")
    return figure, axes


def _one_scale(row: np.ndarray[Any, Any]) -> None:
    for axis in row[1:]:
        axis.sharey(row[0])
        axis.tick_params(labelleft=False)


def _arms(summary: StudySummary) -> list[str]:
    return list(dict.fromkeys(one.arm for one in summary.arms))
