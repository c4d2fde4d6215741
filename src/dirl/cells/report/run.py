"""`dirl cells-report`: a page about the cells of a store, to read before training on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dirl.cells.quality.statistics import resolution_warnings, slide_statistics, total_of
from dirl.cells.report.figures import class_colours, draw_outlines, histograms_figure, slides_figure
from dirl.cells.report.outliers import FEWEST_SLIDES, RULE, find_outliers
from dirl.cells.report.summary import ReportSummary, SegmenterStatistics
from dirl.cells.token_shares import TOKENS_UM
from dirl.core.card import Card, new_card
from dirl.core.digests import digest
from dirl.core.errors import StoreError
from dirl.core.files import write_text
from dirl.core.progress import bar
from dirl.core.randomness import hashes
from dirl.core.results import Result
from dirl.core.stage import Work, carry_out
from dirl.report.html import page
from dirl.report.style import encode
from dirl.store.cells_writer import cells_names
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import INDEX

# Remarks that the page shows.
MOST_REMARKS = 8
JPEG_QUALITY = 88


def cells_report(
    store: Path,
    out: Path,
    *,
    cells: Sequence[str] = (),
    tiles: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> Result[ReportSummary]:
    """Write ``report.html`` and ``summary.json`` on the cells of a store (`dirl cells-report`).

    Parameters
    ----------
    store
        Tile store with cells.
    out
        Directory to write to.
    cells
        Names of cells in the store; by default all of them.
    tiles
        Number of tiles to show.
    seed
        Seed of the choice of tiles.
    overwrite
        Replace a report of other settings.
    quiet
        Show no progress.

    Raises
    ------
    StoreError
        If the store has no such cells, or if some of its tiles have none.
    """
    opened = TileStore.open(store)
    sources, left_out = _sources(opened, cells)
    settings = {"cells": list(sources), "tiles": tiles, "seed": seed}
    inputs = {"store": opened.digest} | {name: digest(one.path / INDEX) for name, one in sources.items()}
    card = new_card("cells-report", settings, inputs)

    def compute(work: Work) -> ReportSummary:
        summary = _summary(opened, sources, quiet)
        counted = replace(work.card, counts=summary.counts)
        text = _page(opened, sources, summary, counted, left_out, tiles, seed)
        write_text(work.out / "report.html", text)
        return summary

    return carry_out(card, out, ReportSummary, compute, overwrite=overwrite, again=True)


def _summary(tiles: TileStore, sources: Mapping[str, CellStore], quiet: bool) -> ReportSummary:
    found = {}
    with bar("Reading cells", len(sources) * len(tiles.slides), quiet=quiet) as advance:
        for name, cells in sources.items():
            slides = {}
            for slide_id in tiles.slides:
                slides[slide_id] = slide_statistics(tiles, cells, slide_id)
                advance(note=slide_id)
            medians = [each.median_um2 for each in slides.values() if each.median_um2 is not None]
            found[name] = SegmenterStatistics(
                made_by=cells.card.config.get("segmenter", name),
                all=total_of(list(slides.values())),
                median_um2=float(np.median(medians)) if medians else None,
                resolution_warnings=resolution_warnings(tiles, slides),
                slides=slides,
            )
    outliers = [each for name, one in found.items() for each in find_outliers(name, one.slides)]
    return ReportSummary(cells=found, outliers=outliers, rule=RULE)


def _page(
    tiles: TileStore,
    sources: Mapping[str, CellStore],
    summary: ReportSummary,
    card: Card,
    left_out: Sequence[str],
    shown: int,
    seed: int,
) -> str:
    found, outliers = summary.cells, summary.outliers
    chosen = np.argsort(hashes(seed, tiles.tile_ids.tolist()))[: max(1, shown)]
    classes = sorted({each for one in found.values() for each in one.all.classes})
    figures = {
        "histograms": ("svg", encode(histograms_figure(found), "svg")),
        "slides": ("svg", encode(slides_figure(found, {each.slide for each in outliers}), "svg")),
    }
    examples = []
    for row in chosen.tolist():
        pictures = {f"{name} {row}": made for name, made in _pictures(tiles, sources, classes, row).items()}
        figures |= {name: ("jpeg", made) for name, made in pictures.items()}
        examples.append((str(tiles.tile_ids[row]), list(zip(["tile", *found], pictures, strict=True))))
    return page(
        files("dirl.cells.report") / "report.html",
        card,
        figures,
        summaries=found,
        outliers=outliers,
        remarks=[*left_out, *_remarks(found)],
        few=len(tiles.slides) < FEWEST_SLIDES,
        rule=RULE,
        slides=len(tiles.slides),
        slide_ids=list(tiles.slides),
        tiles=len(tiles),
        tile_px=tiles.spec.size_px,
        mpp=tiles.spec.mpp,
        tokens_um=TOKENS_UM,
        classes=classes,
        colours=class_colours(classes),
        examples=examples,
        columns=4 if len(found) == 1 else 1 + len(found),
        shown=len(chosen),
        seed=seed,
    )


def _sources(tiles: TileStore, named: Sequence[str]) -> tuple[dict[str, CellStore], list[str]]:
    """Cells to report on. Without names these are all complete cells; each incomplete one gets a remark."""
    if named:
        return {name: tiles.cells(name) for name in dict.fromkeys(named)}, []
    found, left_out = {}, []
    for name in cells_names(tiles.path):
        try:
            found[name] = tiles.cells(name)
        except StoreError as error:
            left_out.append(f"Left out: {error.reason}.")
    if not found:
        what = " ".join(left_out) or "has no cells"
        raise StoreError(what, where=tiles.path, remedy=f"find them: `dirl cells {tiles.path}`")
    return found, left_out


def _pictures(
    tiles: TileStore, sources: Mapping[str, CellStore], classes: Sequence[str], row: int
) -> dict[str, bytes]:
    """JPEGs of a tile, plain and with the outlines of each set of cells."""
    slide_id, image = str(tiles.slide_ids[row]), tiles.image(row)
    shown = {"tile": draw_outlines(image, np.zeros(image.shape[:2], np.int32), {})}
    for name, cells in sources.items():
        nuclei = cells.nuclei(slide_id, ["id", "class"]).to_pydict()
        named = zip(nuclei["id"], nuclei["class"], strict=True)
        colours = {number: classes.index(name) + 1 for number, name in named if name}
        shown[f"by {name}"] = draw_outlines(image, cells.labels(row), colours)
    return {name: _jpeg(picture) for name, picture in shown.items()}


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    return bytes(simplejpeg.encode_jpeg(picture, quality=JPEG_QUALITY, colorsubsampling="444"))


def _remarks(summaries: Mapping[str, SegmenterStatistics]) -> list[str]:
    """Doubtful resolutions and frames, and what was repaired or left out of the user's files."""
    remarks = []
    for name, one in summaries.items():
        remarks += [f"{name}, {slide_id}: {why}." for slide_id, why in one.resolution_warnings.items()]
        for slide_id, slide in one.slides.items():
            if slide.frame is not None and slide.frame.doubt:
                frame = slide.frame
                remarks.append(f"{name}, {slide_id}: {frame.chosen} was chosen, but {frame.doubt}.")
            if slide.misplaced:
                remarks.append(f"{name}, {slide_id}: {slide.misplaced}.")
            remarks += [f"{name}, {slide_id}: {what}: {count}." for what, count in slide.notes.items()]
    more = len(remarks) - MOST_REMARKS
    if more <= 0:
        return remarks
    return [*remarks[:MOST_REMARKS], f"{more} more in summary.json."]
