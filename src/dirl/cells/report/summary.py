"""What a report on cells found: the type of its ``summary.json``."""

from pydantic import ConfigDict, Field

from dirl.core.results import Record, Summary


class Frame(Record):
    """The frame that was chosen for the coordinates of a user's file, and a doubt about it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    chosen: str
    doubt: str | None


class SlideNumbers(Record):
    """Numbers of a slide; see `dirl.cells.quality.statistics`. Cells of earlier versions lack the last ones.

    Attributes
    ----------
    area_um2
        Percentiles of the areas of nuclei: ``p5``, ``p25``, ``p50``, ``p75`` and ``p95``.
    notes
        Number of repaired or left out objects by kind.
    misplaced
        Why the nuclei seem to be in wrong places.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    blobs_um: list[float] | None = None
    notes: dict[str, int] = Field(default_factory=dict)
    frame: Frame | None = None
    misplaced: str | None = None
    tiles: int
    tiles_without_nuclei: int
    nuclei: int
    classes: dict[str, int] = Field(default_factory=dict)
    tissue_mm2: float
    nuclei_mm2: float
    nuclei_per_mm2: float | None
    coverage: float | None
    area_um2: dict[str, float | None]
    prior_contrast: dict[str, float | None]
    tokens: dict[str, list[float]]
    area_histogram: list[int]
    coverage_histogram: list[int]

    @property
    def median_um2(self) -> float | None:
        """Median area of its nuclei."""
        return self.area_um2["p50"]


class TotalNumbers(Record):
    """Numbers of all slides together."""

    tiles: int
    tiles_without_nuclei: int
    nuclei: int
    tissue_mm2: float
    nuclei_mm2: float
    classes: dict[str, int]
    notes: dict[str, int]
    nuclei_per_mm2: float | None
    coverage: float | None
    prior_contrast: dict[str, float | None]
    area_histogram: list[int]
    coverage_histogram: list[int]


class CellsNumbers(Record):
    """Numbers of one segmenter's cells.

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
    all: TotalNumbers
    median_um2: float | None
    resolution_warnings: dict[str, str]
    slides: dict[str, SlideNumbers]


class Outlier(Record):
    """A slide that differs from the others, the name of the cells, and how it differs."""

    slide: str
    cells: str
    what: str


class ReportSummary(Summary):
    """What `dirl cells-report` writes to ``summary.json``, by name of the cells."""

    cells: dict[str, CellsNumbers]
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
