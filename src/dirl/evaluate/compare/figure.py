"""All entries by score, with intervals, and bars that join those that do not differ."""

import matplotlib as mpl
from matplotlib.figure import Figure

from dirl.evaluate.common.scores import measure_title
from dirl.evaluate.compare.summary import CompareSummary
from dirl.report.style import COLOURS, CONTROL, INK, STYLE, new_figure

GRID = "#e3e6ea"
BAR_STEP = 0.035


def ranking(summary: CompareSummary, how: str) -> Figure:
    """Draw one measure, best entry on top.

    After the critical-difference diagrams of Demšar (JMLR 7, 2006): a bar joins entries of which no two
    differ at 5 % by Holm's correction. The axis is the score, not the rank.
    """
    found = summary.measures[how]
    baselines = {entry.name for entry in summary.entries if entry.baseline}
    scores = {name: summary.estimate(how, name) for name in found.entries}
    order = sorted(scores, key=lambda name: -(scores[name].value or 0))
    with mpl.rc_context(STYLE):
        figure = new_figure((6.8, 0.9 + 0.3 * len(order)))
        axis = figure.subplots()
        for y, name in enumerate(order):
            one, colour = scores[name], CONTROL if name in baselines else COLOURS[0]
            if one.low is not None and one.high is not None:
                axis.hlines(y, one.low, one.high, color=colour, linewidth=1.4)
            axis.plot([one.value or 0], [y], "o", color=colour, markersize=5)
        for number, clique in enumerate(found.cliques):
            places = [order.index(name) for name in clique]
            x = 1.03 + BAR_STEP * (number % 4)
            axis.plot(
                [x, x],
                [min(places) - 0.2, max(places) + 0.2],
                color=INK,
                linewidth=3,
                transform=axis.get_yaxis_transform(),
                clip_on=False,
                solid_capstyle="butt",
            )
        if found.cliques:
            axis.set_title("bar at the right edge: no two of these differ", fontsize=8, loc="right")
        axis.axvline(summary.chance, color=CONTROL, linestyle="--", linewidth=1)
        axis.set_yticks(range(len(order)), order)
        axis.set_ylim(len(order) - 0.4, -0.6)
        axis.set_xlabel(f"{summary.metric.replace('_', ' ')}, {measure_title(how)} (dashed: chance)")
        axis.grid(axis="x", color=GRID, linewidth=0.7)
        axis.set_axisbelow(True)
    return figure
