"""Slides whose nuclei differ from those of the other slides."""

from collections.abc import Mapping

import numpy as np

from dirl.cells.quality.statistics import SlideStatistics
from dirl.cells.report.summary import Outlier

FEWEST_SLIDES = 5
FAR = 3.5
# Least robust standard deviation, as a share of the median: very similar slides are no outliers.
LEAST_SPREAD = 0.1
RULE = (
    f"An outlier lies more than {FAR:g} robust standard deviations from the median slide. A robust standard "
    "deviation is 1.48 × the median distance from the median, and at least a tenth of the median. At least "
    f"{FEWEST_SLIDES} slides are needed. Slides without any nucleus are always listed."
)
COMPARED = {
    "nuclei_per_mm2": "nuclei per mm²",
    "median_um2": "µm² is the median area of its nuclei",
    "coverage": "% of its tissue is covered",
    "empty": "% of its tiles have no nucleus",
}


def find_outliers(cells: str, slides: Mapping[str, SlideStatistics]) -> list[Outlier]:
    """Find the slides whose numbers differ from the others', in the order of the slides."""
    found: dict[str, list[str]] = {name: [] for name in slides}
    for name, slide in slides.items():
        if not slide.nuclei:
            found[name].append("no nuclei at all")
    for measure, text in COMPARED.items():
        of_slides = {name: slide_value(slide, measure) for name, slide in slides.items()}
        values = {name: value for name, value in of_slides.items() if value is not None}
        if len(values) < FEWEST_SLIDES:
            continue
        middle = float(np.median(list(values.values())))
        spread = 1.4826 * float(np.median(np.abs(np.array(list(values.values())) - middle)))
        # Most slides may have no empty tiles; then a few per cent are not an outlier.
        spread = max(spread, LEAST_SPREAD * middle, 1.0 if measure == "empty" else 1e-9)
        for name, value in values.items():
            if abs(value - middle) > FAR * spread and slides[name].nuclei:
                found[name].append(f"{_figure(value)} {text}; the median slide has {_figure(middle)}")
    return [
        Outlier(slide=name, cells=cells, what="; ".join(reasons))
        for name, reasons in found.items()
        if reasons
    ]


def slide_value(slide: SlideStatistics, name: str) -> float | None:
    """Return a number of `COMPARED`, shares in percent."""
    if name == "median_um2":
        return slide.median_um2
    if name == "empty":
        return 100 * slide.tiles_without_nuclei / slide.tiles if slide.tiles else None
    if name == "coverage":
        return None if slide.coverage is None else 100 * slide.coverage
    return slide.nuclei_per_mm2


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
