"""`dirl cells-report`: a page about the cells of a store, to read before training on them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dirl.cells.quality.statistics import pooled, resolution_warnings, slide_statistics
from dirl.cells.report.figures import class_colours, histograms_figure, outlined, slides_figure
from dirl.cells.report.outliers import FEWEST_SLIDES, RULE, find_outliers
from dirl.cells.token_coverage import TOKENS_UM
from dirl.core.errors import StoreError
from dirl.core.files import write_json, write_text
from dirl.core.owner import own, owning
from dirl.core.progress import bar
from dirl.core.provenance import claim, digest, finish, new_card
from dirl.core.randomness import hashes
from dirl.report.html import page
from dirl.report.style import encode
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import INDEX

# Remarks that the page shows.
MOST_REMARKS = 8
JPEG_QUALITY = 88


@owning
def cells_report(
    store: Path,
    out: Path,
    *,
    segmenters: Sequence[str] = (),
    tiles: int = 8,
    seed: int = 0,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """Write ``report.html`` and ``summary.json`` on the cells of a store (`dirl cells-report`).

    Parameters
    ----------
    store
        Tile store with cells.
    out
        Directory to write to.
    segmenters
        Names of cells in the store; by default all of them.
    tiles
        Number of tiles to show.
    seed
        Seed of the choice of tiles.
    overwrite
        Replace a report of other settings.
    quiet
        Show no progress.

    Returns
    -------
    dict
        Content of ``summary.json``.

    Raises
    ------
    StoreError
        If the store has no such cells, or if some of its tiles have none.
    """
    opened = TileStore.open(store)
    sources, left_out = _sources(opened, segmenters)
    names = list(sources)
    settings = {"cells": names, "tiles": tiles, "seed": seed}
    inputs = {"store": opened.digest} | {name: digest(cells.path / INDEX) for name, cells in sources.items()}
    card = claim(out, new_card("cells-report", settings, inputs), overwrite=overwrite)
    own(out)  # a finished report is made again
    summaries: dict[str, Any] = {}
    with bar("Reading cells", len(names) * len(opened.slides), quiet=quiet) as advance:
        for name, cells in sources.items():
            slides = {}
            for slide_id in opened.slides:
                slides[slide_id] = slide_statistics(opened, cells, slide_id)
                advance(note=slide_id)
            medians = [slide["area_um2"]["p50"] for slide in slides.values()]
            defined = [median for median in medians if median is not None]
            summaries[name] = {
                "made_by": cells.card.config.get("segmenter", name),
                "all": pooled(list(slides.values())),
                "median_um2": float(np.median(defined)) if defined else None,
                "resolution_warnings": resolution_warnings(opened, slides),
                "slides": slides,
            }
    outliers = [each for name, one in summaries.items() for each in find_outliers(name, one["slides"])]
    summary = {"cells": summaries, "outliers": [asdict(each) for each in outliers], "rule": RULE}
    chosen = np.argsort(hashes(seed, opened.tile_ids.tolist()))[: max(1, tiles)]
    classes = sorted({each for one in summaries.values() for each in one["all"]["classes"]})
    figures = {
        "histograms": ("svg", encode(histograms_figure(summaries), "svg")),
        "slides": ("svg", encode(slides_figure(summaries, {each.slide for each in outliers}), "svg")),
    }
    examples = []
    for row in chosen.tolist():
        pictures = {f"{name} {row}": made for name, made in _pictures(opened, sources, classes, row).items()}
        figures |= {name: ("jpeg", made) for name, made in pictures.items()}
        examples.append((str(opened.tile_ids[row]), list(zip(["tile", *names], pictures, strict=True))))
    doubts = {name: one["resolution_warnings"] for name, one in summaries.items()}
    warned = {name: reasons for name, reasons in doubts.items() if reasons}
    counts: dict[str, Any] = {"slides": len(opened.slides), "tiles": len(opened), "cells": len(names)}
    counts |= {"resolution_warnings": warned} if warned else {}
    text = page(
        files("dirl.cells.report") / "report.html",
        replace(card, counts=counts),
        figures,
        summaries=summaries,
        outliers=outliers,
        remarks=[*left_out, *_remarks(summaries)],
        few=len(opened.slides) < FEWEST_SLIDES,
        rule=RULE,
        slides=len(opened.slides),
        slide_ids=list(opened.slides),
        tiles=len(opened),
        tile_px=opened.spec.size_px,
        mpp=opened.spec.mpp,
        tokens_um=TOKENS_UM,
        classes=classes,
        colours=class_colours(classes),
        examples=examples,
        columns=4 if len(names) == 1 else 1 + len(names),
        shown=len(chosen),
        seed=seed,
    )
    write_json(out / "summary.json", summary)
    write_text(out / "report.html", text)
    finish(out, card, counts)
    return summary


def _sources(tiles: TileStore, named: Sequence[str]) -> tuple[dict[str, CellStore], list[str]]:
    """Cells to report on. Without names these are all complete cells; each incomplete one gets a remark."""
    if named:
        return {name: tiles.cells(name) for name in dict.fromkeys(named)}, []
    found, left_out = {}, []
    for name in sorted(path.parent.name for path in (tiles.path / "cells").glob(f"*/{INDEX}")):
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
    """JPEGs of a tile, plain and with the outlines of each segmenter."""
    slide_id, image = str(tiles.slide_ids[row]), tiles.image(row)
    shown = {"tile": outlined(image, np.zeros(image.shape[:2], np.int32), {})}
    for name, cells in sources.items():
        nuclei = cells.nuclei(slide_id, ["id", "class"]).to_pydict()
        named = zip(nuclei["id"], nuclei["class"], strict=True)
        colours = {number: classes.index(name) + 1 for number, name in named if name}
        shown[f"by {name}"] = outlined(image, cells.labels(row), colours)
    return {name: _jpeg(picture) for name, picture in shown.items()}


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    return bytes(simplejpeg.encode_jpeg(picture, quality=JPEG_QUALITY, colorsubsampling="444"))


def _remarks(summaries: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Doubtful resolutions and frames, and what was repaired or left out of the user's files."""
    remarks = []
    for name, one in summaries.items():
        remarks += [f"{name}, {slide_id}: {why}." for slide_id, why in one["resolution_warnings"].items()]
        for slide_id, slide in one["slides"].items():
            frame = slide.get("frame") or {"doubt": None}
            if frame["doubt"]:
                remarks.append(f"{name}, {slide_id}: {frame['chosen']} was chosen, but {frame['doubt']}.")
            if slide.get("misplaced"):
                remarks.append(f"{name}, {slide_id}: {slide['misplaced']}.")
            notes = slide.get("notes", {})
            remarks += [f"{name}, {slide_id}: {what}: {count}." for what, count in notes.items()]
    more = len(remarks) - MOST_REMARKS
    if more <= 0:
        return remarks
    return [*remarks[:MOST_REMARKS], f"{more} more in summary.json."]
