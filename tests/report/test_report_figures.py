"""Figures are deterministic, share one scale, and outline every nucleus."""

import io

import numpy as np
import pytest
from PIL import Image

from dirl.audit.charts import depth_figure
from dirl.audit.findings import Audited
from dirl.audit.panels import OUTLINE, AttentionMap, Example, comparison_figure, heads_figure, with_outlines
from dirl.audit.table import MEASURES
from dirl.report.style import encode
from tests.audit_cases import encoder


def attention(name: str, heads: int, grid: int, seed: int) -> AttentionMap:
    p = np.random.default_rng(seed).dirichlet(np.ones(grid * grid), heads).reshape(heads, grid, grid)
    return AttentionMap(name, p, p.mean(0), (0, 0, 64, 64), np.full(heads + 1, 0.5))


def example(*maps: AttentionMap) -> Example:
    rng = np.random.default_rng(0)
    labels = np.zeros((64, 64), np.int32)
    labels[10:20, 10:20], labels[10:20, 20:30] = 1, 2
    return Example("median", "t_0", rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), labels, maps)


def test_outlines_part_touching_nuclei() -> None:
    drawn = with_outlines(np.zeros((64, 64, 3), np.uint8), example().labels)
    yellow = (drawn == OUTLINE).all(-1)
    assert yellow[30, 38:42].any()  # between the two; the tile is enlarged twofold
    assert not yellow[30, 25:35].any() and not yellow[75:].any()


@pytest.mark.parametrize("encoders", [1, 2, 3])
def test_a_figure_for_any_number_of_encoders(encoders: int) -> None:
    shown = example(*(attention(f"e{i}", 3, 8, i) for i in range(encoders)))
    figure = comparison_figure([shown, shown])
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    names = [f"e{i}" for i in range(encoders)]
    assert titles == ["tile", "nuclei", *names, *(["e1 − e0"] if encoders == 2 else [])]
    scales = {im.norm.vmax for axis in figure.axes for im in axis.images if im.get_cmap().name == "inferno"}
    assert len(scales) == 1


def test_grids_that_differ_have_no_difference_panel() -> None:
    figure = comparison_figure([example(attention("a", 3, 8, 0), attention("b", 6, 4, 1))])
    assert not any("−" in axis.get_title() for axis in figure.axes)


def test_heads_wrap_after_eight() -> None:
    figure = heads_figure(example(attention("a", 12, 8, 0), attention("b", 3, 8, 1)))
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == [*(f"head {i}" for i in range(12)), *(f"head {i}" for i in range(3))]


def test_the_same_bytes_every_time() -> None:
    shown = example(attention("a", 2, 8, 0), attention("b", 2, 8, 1))
    for kind in ("png", "svg"):
        first = encode(comparison_figure([shown]), kind)
        assert first == encode(comparison_figure([shown]), kind)
    assert Image.open(io.BytesIO(encode(comparison_figure([shown]), "png"))).size[0] > 500


def test_blocks_are_numbered_from_0_as_everywhere() -> None:
    curves = {view: {key: [0.1, 0.2, 0.3] for key in MEASURES} for view in ("per_head", "joint")}
    figure = depth_figure([Audited.model_validate(encoder("one", 0.5) | {"by_block": curves})])
    assert all(np.asarray(axis.lines[0].get_xdata()).tolist() == [0, 1, 2] for axis in figure.axes)
