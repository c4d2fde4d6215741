"""Kaplan–Meier curves by predicted risk, as a figure of reports."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dirl.report.style import COLOURS, STYLE, new_figure

Floats = NDArray[np.float64]


def kaplan_meier(times: Floats, happened: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the times of events, ascending from 0, and the share that is free of the event from then on.

    The estimator of Kaplan and Meier (1958): the product over times of events of 1 − events / at risk.
    """
    events = np.unique(times[happened])
    at_risk = np.array([(times >= time).sum() for time in events])
    fell = np.array([(happened & (times == time)).sum() for time in events])
    return np.append(0.0, events), np.append(1.0, np.cumprod(1 - fell / at_risk))


def higher_risk(risks: Floats, folds: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Whether each risk is above the median of its fold: risks of two models are not on one scale."""
    found = np.zeros(len(risks), dtype=bool)
    for fold in np.unique(folds):
        here = folds == fold
        found[here] = risks[here] > np.median(risks[here])
    return found


def survival_figure(times: Floats, happened: NDArray[np.bool_], higher: NDArray[np.bool_]) -> Figure:
    """Draw the curves of the halves with lower and with higher risk; ticks are censored ones."""
    with mpl.rc_context(STYLE):
        figure = new_figure((6.4, 4.0))
        axis = figure.subplots()
        for colour, chosen, name in (
            (COLOURS[0], ~higher, "lower risk"),
            (COLOURS[1], higher, "higher risk"),
        ):
            if not chosen.any():
                continue
            at, free = kaplan_meier(times[chosen], happened[chosen])
            end = float(times[chosen].max())
            axis.step(
                np.append(at, end),
                np.append(free, free[-1]),
                where="post",
                color=colour,
                label=f"{name} ({int(chosen.sum())} slides, {int(happened[chosen].sum())} events)",
            )
            censored = times[chosen & ~happened]
            heights = free[np.searchsorted(at, censored, side="right") - 1]
            axis.plot(censored, heights, "|", color=colour, markersize=7)
        axis.set_xlabel("time")
        axis.set_ylabel("free of the event, share")
        axis.set_ylim(0, 1.02)
        axis.grid(color="#e3e6ea", linewidth=0.7)
        axis.legend(frameon=False)
    return figure
