"""The nuclei of every tile of a store, found on the slides that the tiles were cut from."""

import glob
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy import ndimage

from dirl.card import claim, finish, new_card
from dirl.cells.named import cells_name, load_segmenter
from dirl.cells.nuclei import Finder, Segmenter
from dirl.cells.picture import draw_nuclei
from dirl.cells.regions import region_ids
from dirl.cells.stains import stain_groups
from dirl.cells.windows import Boxes, Found, SlideLabels
from dirl.config import CellsConfig
from dirl.errors import DirlError, PartlyFailedError, SlideError
from dirl.files import remove
from dirl.parallel import each
from dirl.progress import bar
from dirl.slides.slide import Slide, open_slide, read
from dirl.slides.tissue import tissue_pixels
from dirl.store.cells import cells_dir, cells_finished, merge_cells, write_cells
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import SlideRecord

# What is constant is measured on so many tiles of a slide, or ready-made tiles that are stained alike.
SLIDE_SAMPLES = 32
TILE_SAMPLES = 64
SHOWN_TILES = 16
# Ready-made tiles are small beside windows: so many at a time.
TILES_AT_ONCE = 64


def cells(
    store: Path,
    config: CellsConfig,
    *,
    workers: int = 1,
    device: str = "auto",
    batch_size: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> CellStore:
    """Find the nuclei of a store's tiles (`dirl cells`).

    They are found on the slides, in windows with a halo; each nucleus belongs to the window that holds its
    centroid, has an id that is unique in its slide, and every tile cuts its labels from the slide's.
    Ready-made tiles are segmented one by one, and nuclei that touch a tile's border are flagged. Stain and
    thresholds come from the whole slide's tissue, of ready-made tiles from those of a class that are stained
    alike.

    A slide has all of its cells or none. Run again, only what is missing is made.

    Parameters
    ----------
    store
        Tile store.
    config
        Which segmenter, and the size of the windows.
    workers
        Processes, each with a slide of its own.
    device, batch_size
        Where a network computes, and how many windows at a time; by default what suits the device.
    overwrite
        Replace the segmenter's cells in the store, whatever their settings.
    quiet
        Show no progress bar.

    Returns
    -------
    CellStore

    Raises
    ------
    ConfigError
        If there is no such segmenter, its package or its weights are missing, or there is no such device.
    StoreError
        If `store` is no tile store, or holds cells of this segmenter made with other settings.
    SlideError
        If the only slide is gone since it was tiled, or cannot be read.
    PartlyFailedError
        If some of several slides failed; the others are done.
    OSError
        If the disk is full or cannot be written to; what is finished is kept.
    """
    tiles = TileStore.open(store)
    how = {"device": device, "batch_size": batch_size}
    segmenter = load_segmenter(config.segmenter, **how)
    segmenter_name = cells_name(config)
    settings = config.model_dump(exclude={"name"})
    settings |= {"mpp": segmenter.mpp, "segmenter_digest": segmenter.digest}
    folder = cells_dir(store, segmenter_name)
    card = claim(folder, new_card("cells", settings, {"store": tiles.card.digest}), overwrite=overwrite)
    todo = [name for name in tiles.slides if not cells_finished(store, segmenter_name, name)]
    failures: dict[str, DirlError] = {}
    with bar("Finding nuclei", len(tiles), quiet=quiet) as advance:
        advance(int((~np.isin(tiles.slide_ids, todo)).sum()))
        # Another process tells of whole slides only.
        tick = advance if workers <= 1 else None
        for name, result in each(partial(_make, tiles, config, how, tick), todo, workers):
            if isinstance(result, OSError):
                raise result
            if isinstance(result, Exception):
                failures[name] = _reason(tiles.slides[name], result)
            advance(0 if tick else int((tiles.slide_ids == name).sum()), note=name)
    index = merge_cells(store, segmenter_name)
    finished = [folder / f"{name}.nuclei.parquet" for name in tiles.slides if name not in failures]
    counts = {
        "slides": len(finished),
        "tiles": index.num_rows,
        "nuclei": sum(pq.read_metadata(file).num_rows for file in finished),
        "failed": len(failures),
    }
    finish(folder, card, counts)
    if len(tiles.slides) == 1 and failures:
        raise next(iter(failures.values()))
    if failures:
        raise PartlyFailedError(failures, len(finished))
    return tiles.cells(segmenter_name)


Tick = Callable[[float], None]


def _make(
    tiles: TileStore, config: CellsConfig, how: Mapping[str, Any], tick: Tick | None, slide_id: str
) -> None:
    folder = cells_dir(tiles.path, cells_name(config))
    for stale in folder.glob(f".{glob.escape(slide_id)}.*.part"):
        remove(stale)
    record = tiles.slides[slide_id]
    rows = np.flatnonzero(tiles.slide_ids == slide_id)
    nuclei = _Nuclei()
    work = _ready_tiles if record.kind == "tiles" else _slide_tiles
    segmenter = load_segmenter(config.segmenter, **how)
    items = work(tiles, record, rows, segmenter, config, nuclei, tick or _silent)
    write_cells(tiles.path, cells_name(config), slide_id, items, nuclei.columns)


def _silent(tiles: float) -> None:
    pass


Item = tuple[str, NDArray[np.int32], NDArray[np.uint8]]


class _Nuclei:
    """Columns of the table of nuclei, filled while the tiles are written."""

    def __init__(self) -> None:
        names = ("id", "x", "y", "area_um2", "class", "touches_border", "tile_id")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, **columns: list[Any]) -> None:
        for name, values in columns.items():
            self.columns[name] += values


def _slide_tiles(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    nuclei: _Nuclei,
    tick: Tick,
) -> Iterator[Item]:
    slide = _reopen(record)
    try:
        mpp = max(segmenter.mpp, record.mpp)
        labels = SlideLabels(slide, mpp, config.window_px, config.halo_px)
        step = tiles.spec.mpp / mpp
        x, y = (tiles.index[name].to_numpy()[rows] / labels.scale for name in ("x", "y"))
        boxes = Boxes(x, y, tiles.spec.size_px * step)
        find = _fit(segmenter, slide, mpp, boxes, labels.scale)
        ids = tiles.index["tile_id"].take(rows).to_pylist()
        offsets = (np.arange(tiles.spec.size_px) + 0.5) * step
        waiting = np.argsort(y, kind="stable").tolist()
        counts: dict[tuple[int, int], int] = {}
        windows = labels.rows(boxes)
        share = len(rows) / sum(map(len, windows))
        for row, columns in enumerate(windows):
            for found in labels.segment(row, columns, find):
                _note(nuclei, found, labels)
                counts[found.row, found.column] = len(found.ids)
                tick(share)
            while waiting and labels.last_row(y[waiting[0]], boxes.side) <= row:
                k = waiting.pop(0)
                cut = labels.cut(*(np.floor(start + offsets).astype(np.int64) for start in (y[k], x[k])))
                tissue = tissue_pixels(tiles.image(int(rows[k])), tiles.spec.mpp, record.white)
                yield ids[k], cut, region_ids(cut, tissue)
            labels.forget_above(y[waiting[0]] if waiting else np.inf)
        # Neither the emptiest window nor the one that is full of folds.
        middle = sorted(counts, key=lambda window: counts[window])[len(counts) // 2]
        rgb = labels.read(*middle)
        _draw(tiles, config, record, [rgb], [find([rgb])[0].labels])
    finally:
        slide.close()


def _ready_tiles(
    tiles: TileStore,
    record: SlideRecord,
    rows: NDArray[np.int64],
    segmenter: Segmenter,
    config: CellsConfig,
    nuclei: _Nuclei,
    tick: Tick,
) -> Iterator[Item]:
    ids = tiles.index["tile_id"].take(rows).to_pylist()
    show = set(_spread(np.arange(len(rows)), SHOWN_TILES).tolist())
    shown = []
    last = 0
    groups = stain_groups(tiles.image(int(i)) for i in rows)
    for group in range(groups.max() + 1):
        alike = np.flatnonzero(groups == group)
        samples = [tiles.image(int(rows[k])) for k in _spread(alike, TILE_SAMPLES)]
        find = segmenter.fit(samples, tiles.spec.mpp)
        for start in range(0, len(alike), TILES_AT_ONCE):
            chunk = alike[start : start + TILES_AT_ONCE].tolist()
            images = [tiles.image(int(rows[k])) for k in chunk]
            for k, rgb, mask in zip(chunk, images, find(images), strict=True):
                numbers = np.arange(1, len(mask) + 1)
                centroids = np.reshape(ndimage.center_of_mass(mask.labels > 0, mask.labels, numbers), (-1, 2))
                border = np.concatenate([mask.labels[[0, -1]].ravel(), mask.labels[:, [0, -1]].ravel()])
                areas = np.bincount(mask.labels.ravel(), minlength=len(mask) + 1)[1:] * mask.mpp**2
                names = [None] * len(mask) if mask.classes is None else mask.classes.tolist()
                nuclei.add(
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
            tick(len(chunk))
    _draw(tiles, config, record, [rgb for rgb, _ in shown], [labels for _, labels in shown])


def _reopen(record: SlideRecord) -> Slide:
    if not record.path.exists():
        raise SlideError(
            "the slide has gone since it was tiled, and nuclei are found on the slide",
            where=record.path,
            remedy="put it back there, or tile it again from where it is now",
        )
    slide = open_slide(record.path, record.mpp, record.slide_id)
    if slide.info.size_px != record.size_px:
        slide.close()
        raise SlideError(
            f"is {slide.info.size_px} px now, and was {record.size_px} when it was tiled",
            where=record.path,
            remedy="tile it again",
        )
    return slide


def _fit(segmenter: Segmenter, slide: Slide, mpp: float, boxes: Boxes, scale: float) -> Finder:
    side = max(1, round(boxes.side))
    chosen = _spread(np.arange(len(boxes.x)), SLIDE_SAMPLES)
    return segmenter.fit(
        [read(slide, boxes.x[i] * scale, boxes.y[i] * scale, side, side, mpp) for i in chosen], mpp
    )


def _note(nuclei: _Nuclei, found: Found, labels: SlideLabels) -> None:
    radius = np.sqrt(found.area_px / np.pi)
    near = np.minimum.reduce([found.x, found.y, labels.width - found.x, labels.height - found.y]) <= radius
    nuclei.add(
        id=found.ids.tolist(),
        x=(found.x * labels.scale).tolist(),
        y=(found.y * labels.scale).tolist(),
        area_um2=(found.area_px * labels.mpp**2).tolist(),
        touches_border=near.tolist(),
        tile_id=[None] * len(found.ids),
        **{"class": found.classes},
    )


def _draw(tiles: TileStore, config: CellsConfig, record: SlideRecord, images: Any, labels: Any) -> None:
    folder = cells_dir(tiles.path, cells_name(config)) / "pictures"
    draw_nuclei(folder / f"{record.slide_id}.png", images, labels)


def _spread(items: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """At most `count` of the items, evenly spread."""
    return np.asarray(items[np.linspace(0, len(items) - 1, min(count, len(items))).astype(int)])


def _reason(record: SlideRecord, error: Exception) -> DirlError:
    if isinstance(error, DirlError):
        return error
    reason = DirlError(f"{type(error).__name__}: {error}", where=record.path, remedy="please report this")
    reason.__cause__ = error
    return reason
