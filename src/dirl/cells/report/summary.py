"""What a report on cells found: the type of its ``summary.json``."""

from dirl.cells.quality.statistics import CellStatistics, SlideStatistics
from dirl.core.results import Record, Summary


class SegmenterStatistics(Record):
    """Statistics of one segmenter's cells.

    Attributes
    ----------
    made_by
        Spec of the segmenter.
    median_um2
        Median over slides of the median area.
    resolution_warnings
        By slide, why its stated resolution is probably wrong.
    """

    made_by: str
    all: CellStatistics
    median_um2: float | None
    resolution_warnings: dict[str, str]
    slides: dict[str, SlideStatistics]


class Outlier(Record):
    """A slide that differs from the others, the name of the cells, and how it differs."""

    slide: str
    cells: str
    what: str


class ReportSummary(Summary):
    """What `dirl cells-report` writes to ``summary.json``, by name of the cells."""

    cells: dict[str, SegmenterStatistics]
    outliers: list[Outlier]
    rule: str

    @property
    def counts(self) -> dict[str, object]:
        """Slides, tiles, cells, and resolutions that are probably wrong."""
        first = next(iter(self.cells.values()))
        doubts = {name: one.resolution_warnings for name, one in self.cells.items()}
        warned = {name: reasons for name, reasons in doubts.items() if reasons}
        counts = {"slides": len(first.slides), "tiles": first.all.tiles, "cells": len(self.cells)}
        return {**counts, "resolution_warnings": warned} if warned else {**counts}

    def rows(self) -> list[dict[str, object]]:
        """One row for each segmenter and slide."""
        return [
            {
                "cells": name,
                "slide": slide,
                "tiles": numbers.tiles,
                "nuclei": numbers.nuclei,
                "nuclei_per_mm2": numbers.nuclei_per_mm2,
                "coverage": numbers.coverage,
                "median_um2": numbers.median_um2,
                "tiles_without_nuclei": numbers.tiles_without_nuclei,
            }
            for name, one in self.cells.items()
            for slide, numbers in one.slides.items()
        ]
