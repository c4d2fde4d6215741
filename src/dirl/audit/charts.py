"""Charts of an audit: spread by depth, enrichment by region."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dirl.audit.findings import Audited
from dirl.audit.summary import MapTrust
from dirl.core.intervals import Estimate
from dirl.report.style import COLOURS, CONTROL, INK, STYLE, UNIFORM, new_figure

REGION_NAMES = {"nuclei": "nuclei", "rest": "rest of the tissue", "glass": "glass"}


def depth_figure(encoders: Sequence[Audited]) -> Figure:
    """Draw the spread of attention by depth, of encoders and their controls."""
    panels = (
        ("joint", "entropy", "joint map: normalised entropy"),
        ("joint", "components50", "joint map: nuclei with ≥ ½ of uniform"),
        ("joint", "head_diversity", "head diversity (nats)"),
        ("per_head", "entropy", "per head: normalised entropy"),
        ("joint", "gini", "joint map: Gini"),
        ("joint", "patch_mass", "patch mass"),
    )
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, 5.4))
        axes = figure.subplots(2, 3)
        for axis, (view, name, title) in zip(axes.ravel(), panels, strict=True):
            for one, style in _styled(encoders):
                curve = np.array(getattr(one.by_block, view)[name], dtype=float)
                if one.kind == "uniform":
                    if name not in ("patch_mass", "head_diversity"):
                        axis.axhline(curve[0], label=one.name, **style)
                else:
                    blocks = np.arange(len(curve))  # from 0, as everywhere
                    axis.plot(blocks, curve, marker="o", markersize=3.5, label=one.name, **style)
            axis.set_title(title, loc="left")
            axis.xaxis.get_major_locator().set_params(integer=True)
            axis.grid(axis="y", color="#e3e6ea", linewidth=0.7)
        for axis in axes[1]:
            axis.set_xlabel("block")
        handles, labels = axes[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def enrichment_figure(encoders: Sequence[Audited]) -> Figure:
    """Draw the attention of the last block by region, of the joint map and per head."""
    shown = [(one, style) for one, style in _styled(encoders) if one.kind != "uniform"]
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, 3.4))
        axes = figure.subplots(1, 2, sharey=True)
        width = 0.8 / len(shown)
        for axis, (view, title) in zip(axes, (("joint", "joint map"), ("per_head", "per head")), strict=True):
            for place, (one, style) in enumerate(shown):
                for x, region in enumerate(REGION_NAMES):
                    _bar_with_interval(
                        axis,
                        x + (place - (len(shown) - 1) / 2) * width,
                        width * 0.9,
                        getattr(one.enrichment, view)[region],
                        style["color"],
                        one.name if x == 0 else "",
                        hatch="" if one.kind == "encoder" else "////",
                    )
            axis.axhline(0, color=INK, linewidth=0.9)
            axis.set_xticks(range(len(REGION_NAMES)), list(REGION_NAMES.values()))
            axis.set_title(title, loc="left")
            axis.grid(axis="y", color="#e3e6ea", linewidth=0.7)
            axis.set_axisbelow(True)
        axes[0].set_ylabel("enrichment, log2\n(0: in proportion to area)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def trust_figure(found: Sequence[MapTrust]) -> Figure:
    """Draw how stable the maps are under each change, and how they rank nuclei and their classes."""
    panels = (
        ("stability", "correlation of the map after a change", 0.0),
        ("auroc", "AUROC of the map", 0.5),
    )
    with mpl.rc_context(STYLE):
        figure = new_figure((10.2, 3.2))
        axes = figure.subplots(1, 2)
        for axis, (kind, title, chance) in zip(axes, panels, strict=True):
            names = list(getattr(found[0], kind))
            for number, one in enumerate(found):
                colour = COLOURS[number % len(COLOURS)]
                for x, name in enumerate(names):
                    value = getattr(one, kind)[name]
                    place = x + (number - (len(found) - 1) / 2) * 0.8 / len(found)
                    if value.value is None:
                        continue
                    axis.plot([place], [value.value], "o", color=colour, label=one.name if x == 0 else "")
                    axis.vlines(place, value.low, value.high, color=colour, linewidth=1.6)
            axis.axhline(chance, color=UNIFORM, linewidth=1.0, linestyle=":")
            axis.set_xticks(range(len(names)), names)
            axis.set_title(title, loc="left")
            axis.grid(axis="y", color="#e3e6ea", linewidth=0.7)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def _bar_with_interval(
    axis: Axes,
    x: float,
    width: float,
    value: Estimate,
    colour: str,
    label: str,
    hatch: str,
) -> None:
    middle, low, high = value.value, value.low, value.high
    axis.bar(
        x,
        middle or 0,
        width,
        color=colour if not hatch else "white",
        edgecolor=colour,
        hatch=hatch,
        label=label,
        linewidth=0.8,
    )
    if middle is None or low is None or high is None:
        # In points from 0: in data units it would leave the axes if all values are tiny.
        axis.annotate(
            "none", (x, 0), (0, 2), textcoords="offset points", ha="center", va="bottom", fontsize=7,
            rotation=90, color="#777777",
        )  # fmt: skip
        return
    axis.vlines(x, low, high, color=INK, linewidth=1.1)


def _styled(encoders: Sequence[Audited]) -> list[tuple[Audited, dict[str, Any]]]:
    """Give encoders colours in their order, untrained controls dashes, uniform attention dots."""
    styled: list[tuple[Audited, dict[str, Any]]] = []
    seen = 0
    for one in encoders:
        if one.kind == "encoder":
            styled.append((one, {"color": COLOURS[seen % len(COLOURS)], "linewidth": 2.0}))
            seen += 1
        elif one.kind == "untrained":
            styled.append((one, {"color": CONTROL, "linewidth": 1.5, "linestyle": "--"}))
        else:
            styled.append((one, {"color": UNIFORM, "linewidth": 1.2, "linestyle": ":"}))
    return styled
