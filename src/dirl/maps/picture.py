"""The picture of a map: the slide, and beside it the map on the slide."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from dirl.maps.regions import Region
from dirl.report.style import COLOURS, STYLE, new_figure
from dirl.slides.base import Box, Slide
from dirl.slides.tissue import low_power

SIDE_PX, DPI = 1000, 130
HEAT, OPACITY = "inferno", 0.65


def thumbnail(slide: Slide) -> NDArray[np.uint8]:
    """Read the slide at low power: the longer side of its bounds has at most `SIDE_PX` pixels."""
    info = slide.info
    return low_power(slide, info.mpp * max(1.0, max(info.bounds[2:]) / SIDE_PX))


def map_figure(
    thumb: NDArray[np.uint8],
    size_px: tuple[int, int],
    bounds: Box,
    values: NDArray[np.float32],
    px: float,
    regions: Sequence[Region],
    token_px: float,
    high: float,
    title: Sequence[str],
    unit: str,
) -> Figure:
    """Draw a slide, the top regions outlined, beside its map.

    Parameters
    ----------
    thumb : ndarray of shape (h, w, 3), uint8
        The whole slide.
    size_px
        Width and height of the slide at level 0.
    bounds
        The part of the slide that is drawn, and that the map covers.
    values : ndarray of shape (rows, columns)
        A level of the map, NaN where nothing is mapped.
    px
        Side of its pixels, in level-0 pixels.
    regions
        Regions to outline, in tokens.
    token_px
        Side of a token, in level-0 pixels.
    high
        End of the colour scale.
    title
        Lines above the panels.
    unit
        Title of the colour scale.
    """
    x, y, width, height = bounds
    grey = np.repeat(thumb.mean(-1, keepdims=True).astype(np.uint8), 3, axis=-1)
    panel = (4.2, min(7.0, max(1.6, 4.2 * height / width)))
    with mpl.rc_context(STYLE):
        figure = new_figure((2 * panel[0] + 0.9, panel[1] + 0.35 + 0.18 * len(title)))
        left, right = figure.subplots(1, 2)
        for axis, image in ((left, thumb), (right, grey)):
            axis.imshow(image, extent=(0, size_px[0], size_px[1], 0))
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
        for ring in (ring * token_px + (x, y) for region in regions for ring in region.rings):
            left.plot(*ring.T, color=COLOURS[0], linewidth=0.9)
        if regions:
            left.set_title("outlined: the top regions", fontsize=8, loc="left")
        norm = Normalize(0, high)
        rows, columns = values.shape
        right.imshow(
            np.ma.masked_invalid(values),
            cmap=HEAT,
            norm=norm,
            alpha=OPACITY,
            extent=(x, x + columns * px, y + rows * px, y),
            interpolation="nearest",
        )
        for axis in (left, right):
            axis.set_xlim(x, x + width)
            axis.set_ylim(y + height, y)
        bar = figure.colorbar(ScalarMappable(norm, HEAT), ax=right, fraction=0.05, pad=0.02)
        bar.set_label(f"{unit} (clipped at {high:.3g})", fontsize=8)
        bar.ax.tick_params(labelsize=7.5, length=2)
        bar.outline.set_visible(False)
        figure.suptitle("\n".join(title), fontsize=9, x=0.01, ha="left")
    return figure
