"""The picture of a map: the slide, and beside it the map on the slide."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from dirl.maps.plan import MapPlan
from dirl.maps.regions import Region
from dirl.maps.summary import MapSummary
from dirl.report.style import COLOURS, STYLE, encode, new_figure
from dirl.slides.base import Slide
from dirl.slides.tissue import low_power

SIDE_PX, DPI = 1000, 130
LEVEL_PX = 1500  # longer side of the map's level that is drawn, at most
HEAT, OPACITY = "inferno", 0.65


def thumbnail(slide: Slide) -> NDArray[np.uint8]:
    """Read the slide at low power: the longer side of its bounds has at most `SIDE_PX` pixels."""
    info = slide.info
    return low_power(slide, info.mpp * max(1.0, max(info.bounds[2:]) / SIDE_PX))


def draw_map(
    plan: MapPlan, levels: Sequence[NDArray[np.float32]], regions: Sequence[Region], summary: MapSummary
) -> bytes:
    """Draw the slide with the top regions outlined, beside the mean of heads, as a PNG.

    Each level of the map has shape (c, rows, columns), from fine to coarse; NaN where nothing is mapped.
    """
    slide, token_px = plan.reader.slide, plan.reader.grid.token_level0_px
    number = next((i for i, level in enumerate(levels) if max(level.shape) <= LEVEL_PX), len(levels) - 1)
    values, px, high = levels[number][0], token_px * 2**number, summary.channels[0].range[1]
    title = [
        f"{summary.slide.slide_id}, {summary.encoder.name}",
        f"{plan.facts.query} query, {_block(summary.block, plan.facts.blocks)}, mean of heads; "
        f"within tiles: {summary.within}; between tiles: {summary.between}",
    ]
    thumb, size_px = thumbnail(slide), slide.info.size_px
    x, y, width, height = slide.info.bounds
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
        bar.set_label(f"{summary.unit} (clipped at {high:.3g})", fontsize=8)
        bar.ax.tick_params(labelsize=7.5, length=2)
        bar.outline.set_visible(False)
        figure.suptitle("\n".join(title), fontsize=9, x=0.01, ha="left")
    return encode(figure, "png", DPI)


def _block(number: int, blocks: int) -> str:
    """Name a block: the last one, or its number from 0 beside that of the last."""
    return f"last block ({number})" if number == blocks - 1 else f"block {number} (the last is {blocks - 1})"
