"""The nuclei that a segmenter finds: on the slide that tiles were cut from, or on ready-made tiles."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.cells.base import Finder, Image, Segmenter
from dirl.cells.report.stains import stain_groups
from dirl.cells.sink import SHOWN_TILES, Item, Told
from dirl.cells.windows import Boxes, Found, SlideLabels
from dirl.config import CellsConfig
from dirl.core.errors import SlideError
from dirl.prior.regions import region_ids
from dirl.slides.base import Slide
from dirl.slides.glass import Colour, balanced, is_tinted
from dirl.slides.reading import read
from dirl.slides.tissue import tissue_pixels
from dirl.store.cut import reopen
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord

# What is constant is measured on so many tiles of a slide, or ready-made tiles that are stained alike.
SLIDE_SAMPLES = 32
TILE_SAMPLES = 64
# Ready-made tiles are small beside windows: so many at a time.
TILES_AT_ONCE = 64
BALANCED = "slides or classes with tinted glass, white-balanced for the segmenter"


def found_tiles(
    tiles: TileStore, slide_id: str, segmenter: Segmenter, config: CellsConfig, told: Told
) -> Iterator[Item]:
    """Find the nuclei of a slide and cut its tiles from them.

    Parameters
    ----------
    tiles
        The store.
    slide_id
        Which slide.
    segmenter
        Who finds them.
    config
        Size of the windows.
    told
        Who is told of the nuclei, and how far it is.

    Yields
    ------
    tile_id, labels, region ids

    Raises
    ------
    SlideError
        If the slide has gone or changed since it was tiled, or cannot be read.
    """
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id)
    work = _ready_tiles if record.kind == "tiles" else _slide_tiles
    return work(tiles, record, rows, segmenter, config, told)


def _slide_tiles(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    told: Told,
) -> Iterator[Item]:
    slide = _reopen(record)
    try:
        mpp = max(segmenter.mpp, record.mpp)
        labels = SlideLabels(slide, mpp, config.window_px, config.halo_px)
        step = tiles.spec.mpp / mpp
        x, y = (tiles.index[name].to_numpy()[rows] / labels.scale for name in ("x", "y"))
        boxes = Boxes(x, y, tiles.spec.size_px * step)
        find = _fit(segmenter, _samples(slide, mpp, boxes, labels.scale), mpp, record.white, told)
        ids = tiles.index["tile_id"].take(rows).to_pylist()
        offsets = (np.arange(tiles.spec.size_px) + 0.5) * step
        waiting = np.argsort(y, kind="stable").tolist()
        counts: dict[tuple[int, int], int] = {}
        windows = labels.rows(boxes)
        share = len(rows) / sum(map(len, windows))
        for row, columns in enumerate(windows):
            for found in labels.segment(row, columns, find):
                _note(told, found, labels)
                counts[found.row, found.column] = len(found.ids)
                told.tick(share)
            while waiting and labels.last_row(y[waiting[0]], boxes.side) <= row:
                k = waiting.pop(0)
                cut = labels.cut(*(np.floor(start + offsets).astype(np.int64) for start in (y[k], x[k])))
                tissue = tissue_pixels(tiles.image(int(rows[k])), tiles.spec.mpp, record.white)
                yield ids[k], cut, region_ids(cut, tissue)
            labels.forget_above(y[waiting[0]] if waiting else np.inf)
        # Neither the emptiest window nor the one that is full of folds.
        middle = sorted(counts, key=lambda window: counts[window])[len(counts) // 2]
        rgb = labels.read(*middle)
        told.draw([rgb], [find([rgb])[0].labels])
    finally:
        slide.close()


def _ready_tiles(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    told: Told,
) -> Iterator[Item]:
    ids = tiles.index["tile_id"].take(rows).to_pylist()
    show = set(_spread(np.arange(len(rows)), SHOWN_TILES).tolist())
    shown = []
    last = 0
    groups = stain_groups(tiles.image(int(i)) for i in rows)
    for group in range(groups.max() + 1):
        alike = np.flatnonzero(groups == group)
        samples = [tiles.image(int(rows[k])) for k in _spread(alike, TILE_SAMPLES)]
        find = _fit(segmenter, samples, tiles.spec.mpp, record.white, told)
        for start in range(0, len(alike), TILES_AT_ONCE):
            chunk = alike[start : start + TILES_AT_ONCE].tolist()
            images = [tiles.image(int(rows[k])) for k in chunk]
            for k, rgb, mask in zip(chunk, images, find(images), strict=True):
                numbers = np.arange(1, len(mask) + 1)
                centroids = np.reshape(ndimage.center_of_mass(mask.labels > 0, mask.labels, numbers), (-1, 2))
                border = np.concatenate([mask.labels[[0, -1]].ravel(), mask.labels[:, [0, -1]].ravel()])
                areas = np.bincount(mask.labels.ravel(), minlength=len(mask) + 1)[1:] * mask.mpp**2
                names = [None] * len(mask) if mask.classes is None else mask.classes.tolist()
                told.nuclei(
                    id=(numbers + last).tolist(),
                    x=(centroids[:, 1] + 0.5).tolist(),
                    y=(centroids[:, 0] + 0.5).tolist(),
                    area_um2=areas.tolist(),
                    touches_border=np.isin(numbers, border).tolist(),
                    tile_id=[ids[k]] * len(mask),
                    **{"class": [None if c is None else mask.class_names[c] for c in names]},
                )
                labels = np.where(mask.labels > 0, mask.labels + np.int32(last), np.int32(0))
                last += len(mask)
                if k in show:
                    shown.append((rgb, labels))
                yield ids[k], labels, region_ids(labels, tissue_pixels(rgb, tiles.spec.mpp, record.white))
            told.tick(len(chunk))
    told.draw([rgb for rgb, _ in shown], [labels for _, labels in shown])


def _reopen(record: SlideRecord) -> Slide:
    if not record.path.exists():
        raise SlideError(
            "the slide has gone since it was tiled, and nuclei are found on the slide",
            where=record.path,
            remedy="put it back there, or tile it again from where it is now",
        )
    slide = reopen(record)
    if slide.info.size_px != record.size_px:
        slide.close()
        raise SlideError(
            f"is {slide.info.size_px} px now, and was {record.size_px} when it was tiled",
            where=record.path,
            remedy="tile it again",
        )
    return slide


def _samples(slide: Slide, mpp: float, boxes: Boxes, scale: float) -> list[Image]:
    side = max(1, round(boxes.side))
    chosen = _spread(np.arange(len(boxes.x)), SLIDE_SAMPLES)
    return [read(slide, boxes.x[i] * scale, boxes.y[i] * scale, side, side, mpp) for i in chosen]


def _fit(segmenter: Segmenter, samples: list[Image], mpp: float, white: Colour, told: Told) -> Finder:
    """Fit a segmenter; where the glass is tinted it sees white-balanced pixels, as it expects."""
    if not is_tinted(white):
        return segmenter.fit(samples, mpp)
    told.notes[BALANCED] = 1
    find = segmenter.fit([balanced(rgb, white) for rgb in samples], mpp)
    return lambda images: find([balanced(rgb, white) for rgb in images])


def _note(told: Told, found: Found, labels: SlideLabels) -> None:
    radius = np.sqrt(found.area_px / np.pi)
    near = np.minimum.reduce([found.x, found.y, labels.width - found.x, labels.height - found.y]) <= radius
    told.nuclei(
        id=found.ids.tolist(),
        x=(found.x * labels.scale).tolist(),
        y=(found.y * labels.scale).tolist(),
        area_um2=(found.area_px * labels.mpp**2).tolist(),
        touches_border=near.tolist(),
        tile_id=[None] * len(found.ids),
        **{"class": found.classes},
    )


def _spread(items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the items, evenly spread."""
    return np.asarray(items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)])
