"""Labels of tiles from a segmenter: on the slide that the tiles were cut from, or on ready-made tiles."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.cells.base import Finder, Image, NucleiMask, Segmenter
from dirl.cells.segmenters.stain_groups import stain_groups
from dirl.cells.sink import SHOWN_TILES, LabelledTile, LabelSink
from dirl.cells.windows import TileBoxes, WindowedLabels, WindowNuclei
from dirl.config import CellsConfig
from dirl.core.errors import SlideError
from dirl.prior.regions import cell_region_ids
from dirl.slides.base import Slide
from dirl.slides.glass import Colour, is_tinted, white_balanced
from dirl.slides.reading import read_box
from dirl.slides.tissue import tissue_pixels
from dirl.store.cut import reopen_slide
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord

# Number of tiles that a segmenter is fitted to: of a slide, and of ready-made tiles with the same stain.
SLIDE_SAMPLES = 32
TILE_SAMPLES = 64
# Ready-made tiles are smaller than windows, so a segmenter gets this many at a time.
TILES_AT_ONCE = 64
BALANCED = "slides or classes with tinted glass, white-balanced for the segmenter"


def label_by_segmenter(
    tiles: TileStore, slide_id: str, segmenter: Segmenter, config: CellsConfig, sink: LabelSink
) -> Iterator[LabelledTile]:
    """Find the nuclei of a slide, and cut the labels of its tiles from them.

    Raises
    ------
    SlideError
        If the slide is missing, has changed since it was tiled, or cannot be read.
    """
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id)
    label = _label_ready_tiles if record.kind == "tiles" else _label_slide
    return label(tiles, record, rows, segmenter, config, sink)


def _label_slide(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    sink: LabelSink,
) -> Iterator[LabelledTile]:
    slide = _reopen(record)
    try:
        mpp = max(segmenter.mpp, record.mpp)
        labels = WindowedLabels(slide, mpp, config.window_px, config.halo_px)
        step = tiles.spec.mpp / mpp
        x, y = (tiles.index[name].to_numpy()[rows] / labels.scale for name in ("x", "y"))
        boxes = TileBoxes(x, y, tiles.spec.size_px * step)
        find = _fit(segmenter, _samples(slide, mpp, boxes, labels.scale), mpp, record.white, sink)
        ids = tiles.index["tile_id"].take(rows).to_pylist()
        offsets = (np.arange(tiles.spec.size_px) + 0.5) * step
        waiting = np.argsort(y, kind="stable").tolist()
        counts: dict[tuple[int, int], int] = {}
        windows = labels.rows(boxes)
        share = len(rows) / sum(map(len, windows))
        for row, columns in enumerate(windows):
            for found in labels.segment(row, columns, find):
                _add_window(sink, found, labels)
                counts[found.row, found.column] = len(found.ids)
                sink.advance(share)
            while waiting and labels.last_row(y[waiting[0]], boxes.side) <= row:
                k = waiting.pop(0)
                cut = labels.cut(*(np.floor(start + offsets).astype(np.int64) for start in (y[k], x[k])))
                tissue = tissue_pixels(tiles.image(int(rows[k])), tiles.spec.mpp, record.white)
                yield ids[k], cut, cell_region_ids(cut, tissue)
            labels.forget_above(y[waiting[0]] if waiting else np.inf)
        # The window with the median count is neither nearly empty nor full of folds.
        middle = sorted(counts, key=lambda window: counts[window])[len(counts) // 2]
        rgb = labels.read(*middle)
        sink.draw([rgb], [find([rgb])[0].labels])
    finally:
        slide.close()


def _label_ready_tiles(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    sink: LabelSink,
) -> Iterator[LabelledTile]:
    ids = tiles.index["tile_id"].take(rows).to_pylist()
    show = set(_evenly(np.arange(len(rows)), SHOWN_TILES).tolist())
    shown = []
    last = 0
    groups = stain_groups(tiles.image(int(i)) for i in rows)
    for group in range(groups.max() + 1):
        alike = np.flatnonzero(groups == group)
        samples = [tiles.image(int(rows[k])) for k in _evenly(alike, TILE_SAMPLES)]
        find = _fit(segmenter, samples, tiles.spec.mpp, record.white, sink)
        for start in range(0, len(alike), TILES_AT_ONCE):
            chunk = alike[start : start + TILES_AT_ONCE].tolist()
            images = [tiles.image(int(rows[k])) for k in chunk]
            for k, rgb, mask in zip(chunk, images, find(images), strict=True):
                _add_tile(sink, mask, last, ids[k])
                labels = np.where(mask.labels > 0, mask.labels + np.int32(last), np.int32(0))
                last += len(mask)
                if k in show:
                    shown.append((rgb, labels))
                tissue = tissue_pixels(rgb, tiles.spec.mpp, record.white)
                yield ids[k], labels, cell_region_ids(labels, tissue)
            sink.advance(len(chunk))
    sink.draw([rgb for rgb, _ in shown], [labels for _, labels in shown])


def _reopen(record: SlideRecord) -> Slide:
    if not record.path.exists():
        raise SlideError(
            "the slide is missing, and a segmenter needs it",
            where=record.path,
            remedy="put it back there, or tile it again from where it is now",
        )
    slide = reopen_slide(record)
    if slide.info.size_px != record.size_px:
        slide.close()
        raise SlideError(
            f"has {slide.info.size_px} px now, and had {record.size_px} when it was tiled",
            where=record.path,
            remedy="tile it again",
        )
    return slide


def _samples(slide: Slide, mpp: float, boxes: TileBoxes, scale: float) -> list[Image]:
    side = max(1, round(boxes.side))
    chosen = _evenly(np.arange(len(boxes.x)), SLIDE_SAMPLES)
    return [read_box(slide, boxes.x[i] * scale, boxes.y[i] * scale, side, side, mpp) for i in chosen]


def _fit(segmenter: Segmenter, samples: list[Image], mpp: float, white: Colour, sink: LabelSink) -> Finder:
    """Fit a segmenter; if the glass is tinted, the segmenter gets white-balanced pixels."""
    if not is_tinted(white):
        return segmenter.fit(samples, mpp)
    sink.notes[BALANCED] = 1
    find = segmenter.fit([white_balanced(rgb, white) for rgb in samples], mpp)
    return lambda images: find([white_balanced(rgb, white) for rgb in images])


def _add_window(sink: LabelSink, found: WindowNuclei, labels: WindowedLabels) -> None:
    """Add the nuclei of a window to the table."""
    radius = np.sqrt(found.area_px / np.pi)
    near = np.minimum.reduce([found.x, found.y, labels.width - found.x, labels.height - found.y]) <= radius
    areas = found.area_px * labels.mpp**2
    sink.nuclei.add(found.ids, found.x * labels.scale, found.y * labels.scale, areas, found.classes, near)


def _add_tile(sink: LabelSink, mask: NucleiMask, last: int, tile_id: str) -> None:
    """Add the nuclei of a ready-made tile to the table; `last` is the largest id so far."""
    numbers = np.arange(1, len(mask) + 1)
    centroids = np.reshape(ndimage.center_of_mass(mask.labels > 0, mask.labels, numbers), (-1, 2))
    edges = np.concatenate([mask.labels[[0, -1]].ravel(), mask.labels[:, [0, -1]].ravel()])
    areas = np.bincount(mask.labels.ravel(), minlength=len(mask) + 1)[1:] * mask.mpp**2
    classes: list[str | None] = [None] * len(mask)
    if mask.classes is not None:
        classes = [mask.class_names[c] for c in mask.classes.tolist()]
    x, y = centroids[:, 1] + 0.5, centroids[:, 0] + 0.5
    sink.nuclei.add(numbers + last, x, y, areas, classes, np.isin(numbers, edges), tile_id)


def _evenly(items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the items, evenly spaced."""
    return np.asarray(items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)])
