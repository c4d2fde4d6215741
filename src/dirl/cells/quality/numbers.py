"""Types of the numbers about cells: of a slide, of several slides together, and of a store."""

from pathlib import Path

from pydantic import Field

from dirl.core.boundary import inside, parsing
from dirl.core.files import read_json, write_json
from dirl.core.results import Record
from dirl.store.cells_writer import cells_dir


class ChosenFrame(Record):
    """The chosen origin of a file's coordinates; see `dirl.cells.source.Frame`."""

    chosen: str
    why: str
    doubt: str | None


class Numbers(Record):
    """Numbers about cells.

    Attributes
    ----------
    notes
        Counts of objects that were repaired or left out, by reason.
    tiles, tiles_without_nuclei, nuclei
        Counts; of nuclei those that lie in tiles, at least in part.
    tissue_mm2, nuclei_mm2
        Areas in the tiles.
    nuclei_per_mm2, coverage
        Nuclei per area of tissue, and the share of the tissue that they cover; None without tissue.
    classes
        Number of nuclei by class.
    prior_contrast
        Prior contrast by side of the tokens in µm; None if all or none of the tokens is covered.
    area_histogram, coverage_histogram
        Counts of nuclei by area, and of tiles by coverage.
    """

    notes: dict[str, int] = Field(default_factory=dict)
    tiles: int
    tiles_without_nuclei: int
    nuclei: int
    tissue_mm2: float
    nuclei_mm2: float
    nuclei_per_mm2: float | None
    coverage: float | None
    classes: dict[str, int]
    prior_contrast: dict[str, float | None]
    area_histogram: list[int]
    coverage_histogram: list[int]


class SlideNumbers(Numbers):
    """Numbers about the cells of a slide.

    Attributes
    ----------
    area_um2
        Quantiles of the areas of nuclei that do not touch a border, such as ``p50``; None without any.
    tokens
        By side of the tokens in µm: their number, and the sums of their coverage and of its square.
    blobs_um
        Sizes of blobs; see `dirl.cells.quality.size_check.blob_sizes`.
    source
        Fingerprint of the user's files; None for a segmenter.
    frame, misplaced
        See `dirl.cells.sink.LabelSink`.
    """

    area_um2: dict[str, float | None]
    tokens: dict[str, list[float]]
    blobs_um: list[float] = Field(default_factory=list)
    source: str | None = None
    frame: ChosenFrame | None = None
    misplaced: str | None = None

    @property
    def median_um2(self) -> float | None:
        """Median area of its nuclei."""
        return self.area_um2["p50"]


class CellsSummary(Record):
    """The ``summary.json`` of cells: numbers of all slides and of each, and warnings by slide."""

    all: Numbers
    resolution_warnings: dict[str, str]
    slides: dict[str, SlideNumbers]


def statistics_file(store: Path, segmenter: str, slide_id: str) -> Path:
    """File of a slide's numbers."""
    return inside(cells_dir(store, segmenter), f"{slide_id}.statistics.json")


def write_statistics(store: Path, segmenter: str, slide_id: str, numbers: SlideNumbers) -> None:
    """Save a slide's numbers."""
    write_json(statistics_file(store, segmenter, slide_id), numbers.to_json())


def read_statistics(file: Path) -> SlideNumbers:
    """Read a slide's numbers.

    Raises
    ------
    FileNotFoundError
        If they are missing.
    StoreError
        If they are damaged.
    """
    content = read_json(file)
    with parsing(file, remedy="make the cells again with `dirl cells`", what="damaged"):
        return SlideNumbers.model_validate(content)
