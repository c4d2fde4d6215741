"""Style of all figures, and how they are written: the same bytes every time."""

import io
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's palette, in an order that also differs in lightness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
CONTROL, UNIFORM, INK = "#8a8a8a", "#333333", "#1d2433"
STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.h_pad": 0.09,
    "figure.constrained_layout.w_pad": 0.06,
    "svg.hashsalt": "dirl",
    "svg.fonttype": "none",
}


def new_figure(size_in: tuple[float, float], *, constrained: bool = True) -> Figure:
    """Make a figure that needs no display and no global state."""
    figure = Figure(figsize=size_in, layout="constrained" if constrained else None)
    FigureCanvasAgg(figure)
    return figure


def encode(figure: Figure, kind: str, dpi: int = 110) -> bytes:
    """Draw a figure to PNG or SVG, the same bytes every time."""
    buffer = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}[kind]
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format=kind, dpi=dpi, metadata=metadata, facecolor="white")
    return buffer.getvalue()
