"""A report on the cells of a store, to be looked at before anything is trained on them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from dirl.cells.quality.statistics import pooled, resolution_warnings, slide_statistics
from dirl.cells.report.figures import class_colours, histograms_figure, outlined, slide_value, slides_figure
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

FEWEST_SLIDES = 5
FAR = 3.5
# No distance below a tenth of the median is far, however alike the other slides are.
LEAST_SPREAD = 0.1
RULE = (
    f"A slide stands out where it lies more than {FAR:g} robust standard deviations (1.48 × the median "
    "distance from the median, at least a tenth of the median) from the median slide; at least "
    f"{FEWEST_SLIDES} slides are needed. Slides without any nucleus are always named."
)
COMPARED = {
    "nuclei_per_mm2": "nuclei per mm²",
    "median_um2": "µm² is the median area of its nuclei",
    "coverage": "% of its tissue is covered",
    "empty": "% of its tiles have no nucleus",
}
NOTES = 8
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
        Names of cells in the store; by default all that are there.
    tiles
        How many tiles to show.
    seed
        Of which tiles are shown.
    overwrite
        Replace a report with other settings.
    quiet
        Show no progress.

    Returns
    -------
    dict
        What ``summary.json`` holds.

    Raises
    ------
    StoreError
        If there are no cells, or not for every tile.
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
            known = [median for median in medians if median is not None]
            summaries[name] = {
                "made_by": cells.card.config.get("segmenter", name),
                "all": pooled(list(slides.values())),
                "median_um2": float(np.median(known)) if known else None,
                "resolution_warnings": resolution_warnings(opened, slides),
                "slides": slides,
            }
    far = [each for name, one in summaries.items() for each in standing_out(name, one["slides"])]
    summary = {"cells": summaries, "standing_out": far, "rule": RULE}
    chosen = np.argsort(hashes(seed, opened.tile_ids.tolist()))[: max(1, tiles)]
    classes = sorted({each for one in summaries.values() for each in one["all"]["classes"]})
    figures = {
        "histograms": ("svg", encode(histograms_figure(summaries), "svg")),
        "slides": ("svg", encode(slides_figure(summaries, {each["slide"] for each in far}), "svg")),
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
        standing_out=far,
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


def standing_out(segmenter: str, slides: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Name slides that are unlike the others, and say in what.

    Parameters
    ----------
    segmenter
        Whose cells.
    slides
        Statistics by slide.

    Returns
    -------
    list of dict
        ``slide``, ``cells`` and ``what``, in the order of the slides.
    """
    found: dict[str, list[str]] = {name: [] for name in slides}
    for name, slide in slides.items():
        if not slide["nuclei"]:
            found[name].append("no nuclei at all")
    for measure, text in COMPARED.items():
        values = {name: slide_value(slide, measure) for name, slide in slides.items()}
        known = {name: value for name, value in values.items() if value is not None}
        if len(known) < FEWEST_SLIDES:
            continue
        middle = float(np.median(list(known.values())))
        spread = 1.4826 * float(np.median(np.abs(np.array(list(known.values())) - middle)))
        # Of empty tiles there may be none in most slides: a few per cent are not far from that.
        spread = max(spread, LEAST_SPREAD * middle, 1.0 if measure == "empty" else 1e-9)
        for name, value in known.items():
            if abs(value - middle) > FAR * spread and slides[name]["nuclei"]:
                found[name].append(f"{_figure(value)} {text}, of the median slide {_figure(middle)}")
    return [{"slide": name, "cells": segmenter, "what": "; ".join(why)} for name, why in found.items() if why]


def _sources(tiles: TileStore, named: Sequence[str]) -> tuple[dict[str, CellStore], list[str]]:
    """Cells to report on; where none is named, all that are whole, and a line for each that is not."""
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
    """Doubtful resolutions and frames, and what was mended or left out of the user's own nuclei."""
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
            remarks += [f"{name}, {slide_id}: {count} {what}." for what, count in notes.items()]
    more = len(remarks) - NOTES
    return remarks if more <= 0 else [*remarks[:NOTES], f"And {more} more of this kind, in summary.json."]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
