"""Statistics of cells, which show a bad segmentation before anything is trained on it.

Of a slide, of several slides together, and of a store.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dirl.cells.quality.checks import resolution_doubt
from dirl.cells.sink import LabelledTile
from dirl.cells.token_shares import TOKENS_UM, token_shares
from dirl.core.boundary import inside, parsing
from dirl.core.card import note_change
from dirl.core.checked import SUMMARY, checked
from dirl.core.errors import StoreError
from dirl.core.files import read_json, write_json
from dirl.core.owner import MERGE_SECONDS, locked
from dirl.core.results import Record
from dirl.store.cells_writer import cells_dir
from dirl.store.dataset import CellStore, TileStore

AREA_STEP_UM2, AREA_STEPS = 10, 30
COVERAGE_STEPS = 20
QUANTILES = (5, 25, 50, 75, 95)


class ChosenFrame(Record):
    """The chosen origin of a file's coordinates; see `dirl.cells.source.Frame`."""

    chosen: str
    why: str
    doubt: str | None


class CellStatistics(Record):
    """Statistics of cells.

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


class SlideStatistics(CellStatistics):
    """Statistics of the cells of a slide.

    Attributes
    ----------
    area_um2
        Quantiles of the areas of nuclei that do not touch a border, such as ``p50``; None without any.
    tokens
        By side of the tokens in µm: their number, and the sums of their coverage and of its square.
    blobs_um
        Sizes of blobs; see `dirl.cells.quality.checks.blob_sizes`.
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

    all: CellStatistics
    resolution_warnings: dict[str, str]
    slides: dict[str, SlideStatistics]

    @property
    def frames(self) -> dict[str, ChosenFrame]:
        """The frame of each slide whose frame had to be chosen."""
        return {name: one.frame for name, one in self.slides.items() if one.frame is not None}

    @property
    def misplaced(self) -> dict[str, str]:
        """Why the nuclei of a slide may lie in wrong places, by slide."""
        return {name: one.misplaced for name, one in self.slides.items() if one.misplaced}


class TileSums:
    """Sums over the tiles of a slide, which have `mpp` µm/px."""

    def __init__(self, mpp: float) -> None:
        self.mpp = mpp
        self.tiles = self.empty = 0
        self.nuclei_px = self.tissue_px = 0
        self._pieces: list[tuple[NDArray[np.int32], NDArray[np.int64]]] = []
        self._shares: list[float] = []
        # By token size: the number of tokens, and the sums of their coverage and of its square.
        self._tokens = {um: np.zeros(3) for um in TOKENS_UM}

    def add(self, labels: NDArray[np.int32], regions: NDArray[np.uint8]) -> None:
        """Add a tile: labels (h, w), and regions (h, w) as in `dirl.prior.regions.cell_region_ids`."""
        nuclei = labels > 0
        covered, tissue = int(nuclei.sum()), int((regions > 0).sum())
        ids, pixels = np.unique(labels[nuclei], return_counts=True)
        self.tiles += 1
        self.empty += not covered
        self.nuclei_px += covered
        self.tissue_px += tissue
        self._pieces.append((ids, pixels))
        if tissue:
            self._shares.append(covered / tissue)
        for um, sums in self._tokens.items():
            share = token_shares(nuclei, max(1, round(um / self.mpp)))
            sums += (share.size, share.sum(), np.square(share).sum())

    def counting(self, items: Iterable[LabelledTile]) -> Iterator[LabelledTile]:
        """Add tiles, and pass them on."""
        for item in items:
            self.add(*item[1:])
            yield item

    def statistics(self, nuclei: Mapping[str, Sequence[Any]]) -> SlideStatistics:
        """Return the numbers, given the columns of the slide's table of nuclei.

        In the density a nucleus counts by the share of its area in a tile. So it counts once in adjacent
        tiles, and as often as the tissue in overlapping tiles.
        """
        seen = np.concatenate([ids for ids, _ in self._pieces] or [np.zeros(0, int)])
        pixels = np.concatenate([pixels for _, pixels in self._pieces] or [np.zeros(0, int)])
        ids, areas = np.asarray(nuclei["id"], int), np.asarray(nuclei["area_um2"], float)
        area_of = np.zeros(max(ids.max(initial=0), seen.max(initial=0)) + 1)
        area_of[ids] = areas
        shares = np.minimum(pixels * self.mpp**2 / np.maximum(area_of[seen], 1e-9), 1)
        in_tiles = np.isin(ids, seen)
        typical = areas[in_tiles & ~np.asarray(nuclei["touches_border"], bool)]
        tissue_mm2 = self.tissue_px * self.mpp**2 / 1e6
        classes = zip(nuclei["class"], in_tiles.tolist(), strict=True)
        names = Counter(name for name, counts in classes if name and counts)
        return SlideStatistics(
            tiles=self.tiles,
            tiles_without_nuclei=self.empty,
            nuclei=int(in_tiles.sum()),
            classes=dict(sorted(names.items())),
            tissue_mm2=tissue_mm2,
            nuclei_mm2=self.nuclei_px * self.mpp**2 / 1e6,
            nuclei_per_mm2=float(shares.sum()) / tissue_mm2 if tissue_mm2 else None,
            coverage=self.nuclei_px / self.tissue_px if self.tissue_px else None,
            area_um2={f"p{q}": float(np.percentile(typical, q)) if len(typical) else None for q in QUANTILES},
            prior_contrast={str(um): _contrast(sums) for um, sums in self._tokens.items()},
            tokens={str(um): sums.tolist() for um, sums in self._tokens.items()},
            area_histogram=_histogram(typical / AREA_STEP_UM2, AREA_STEPS),
            coverage_histogram=_histogram(np.array(self._shares) * COVERAGE_STEPS, COVERAGE_STEPS),
        )


def write_summary(tiles: TileStore, cells: str, slide_ids: Sequence[str]) -> CellsSummary:
    """Write and return the ``summary.json`` of cells: numbers by slide and in total, and warnings."""
    files = {name: statistics_file(tiles.path, cells, name) for name in slide_ids}
    slides = {name: read_statistics(file) for name, file in files.items() if file.is_file()}
    summary = CellsSummary(
        all=total_of(list(slides.values())),
        resolution_warnings=resolution_warnings(tiles, slides),
        slides=slides,
    )
    write_json(cells_dir(tiles.path, cells) / SUMMARY, summary.to_json())
    return summary


def resolution_warnings(tiles: TileStore, slides: Mapping[str, SlideStatistics]) -> dict[str, str]:
    """Return a warning for each slide whose stated resolution is probably wrong.

    Older cells lack the sizes of blobs, so their slides are not checked.
    """
    doubts = {
        name: resolution_doubt(numbers.blobs_um, tiles.slides[name].mpp) for name, numbers in slides.items()
    }
    return {name: doubt for name, doubt in doubts.items() if doubt}


def slide_statistics(tiles: TileStore, cells: CellStore, slide_id: str) -> SlideStatistics:
    """Read a slide's numbers. If they are missing or damaged, compute and save them."""
    name = statistics_file(tiles.path, cells.name, slide_id).name
    try:
        return read_statistics(checked(cells.path, name, cells.card))
    except (FileNotFoundError, StoreError):
        pass
    made = TileSums(tiles.spec.mpp)
    for row in np.flatnonzero(tiles.slide_ids == slide_id).tolist():
        made.add(cells.labels(row), cells.regions(row))
    nuclei = cells.nuclei(slide_id, ["id", "area_um2", "touches_border", "class"])
    found = made.statistics(nuclei.to_pydict())
    with locked(cells.path, MERGE_SECONDS):
        write_statistics(tiles.path, cells.name, slide_id, found)
        note_change(cells.path, name)
    return found


def total_of(slides: Sequence[SlideStatistics]) -> CellStatistics:
    """Return the numbers of several slides together: sums, histograms, and shares of these."""
    tissue = sum(slide.tissue_mm2 for slide in slides)
    nuclei_mm2 = sum(slide.nuclei_mm2 for slide in slides)
    counted = sum((slide.nuclei_per_mm2 or 0) * slide.tissue_mm2 for slide in slides)
    tokens = {um: sum((np.array(s.tokens[um]) for s in slides), np.zeros(3)) for um in map(str, TOKENS_UM)}
    return CellStatistics(
        notes=_added(slide.notes for slide in slides),
        tiles=sum(slide.tiles for slide in slides),
        tiles_without_nuclei=sum(slide.tiles_without_nuclei for slide in slides),
        nuclei=sum(slide.nuclei for slide in slides),
        tissue_mm2=tissue,
        nuclei_mm2=nuclei_mm2,
        nuclei_per_mm2=counted / tissue if tissue else None,
        coverage=nuclei_mm2 / tissue if tissue else None,
        classes=_added(slide.classes for slide in slides),
        prior_contrast={um: _contrast(sums) for um, sums in tokens.items()},
        area_histogram=[sum(counts) for counts in zip(*(s.area_histogram for s in slides), strict=True)],
        coverage_histogram=[
            sum(counts) for counts in zip(*(s.coverage_histogram for s in slides), strict=True)
        ],
    )


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums of counts by name, sorted by name."""
    return dict(sorted(sum((Counter(each) for each in counts), Counter[str]()).items()))


def _contrast(sums: NDArray[np.float64]) -> float | None:
    """``Var(c) / (c̄ (1 − c̄))`` of the coverage c of tokens; None if all or none of it is covered."""
    count, first, second = sums
    mean = first / count if count else 0.0
    return float((second / count - mean**2) / (mean * (1 - mean))) if 0 < mean < 1 else None


def _histogram(values: NDArray[np.float64], steps: int) -> list[int]:
    """Count values by whole steps; the last step includes everything beyond it."""
    counts: list[int] = np.bincount(values.astype(int).clip(0, steps - 1), minlength=steps).tolist()
    return counts


def statistics_file(store: Path, cells: str, slide_id: str) -> Path:
    """Return the file of a slide's numbers."""
    return inside(cells_dir(store, cells), f"{slide_id}.statistics.json")


def write_statistics(store: Path, cells: str, slide_id: str, numbers: SlideStatistics) -> None:
    """Save a slide's numbers."""
    write_json(statistics_file(store, cells, slide_id), numbers.to_json())


def read_statistics(file: Path) -> SlideStatistics:
    """Read a slide's numbers; raise `FileNotFoundError` or, if they are damaged, `StoreError`."""
    content = read_json(file)
    with parsing(file, remedy="make the cells again with `dirl cells`", what="damaged"):
        return SlideStatistics.model_validate(content)
