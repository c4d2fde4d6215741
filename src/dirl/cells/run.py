"""The nuclei of every tile of a store, found on the slides that the tiles were cut from."""

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dirl.cells.base import Segmenter
from dirl.cells.files.matching import CellSource, fingerprint, forget_listings
from dirl.cells.from_files import own_tiles
from dirl.cells.from_segmenter import found_tiles
from dirl.cells.picture import draw_nuclei
from dirl.cells.report.size_check import blob_sizes
from dirl.cells.report.statistics import Statistics, statistics_file, write_statistics, write_summary
from dirl.cells.segmenters.registry import cells_name, load_segmenter
from dirl.cells.sink import Told, silent
from dirl.config import CellsConfig
from dirl.core.errors import ConfigError, DirlError, DirlWarning, PartlyFailedError, StoreError, explained
from dirl.core.files import no_room, read_json, remove_parts
from dirl.core.owner import MERGE_SECONDS, item_locked, locked, owning
from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.core.provenance import Card, claim, finish, new_card, read_card, unfinish
from dirl.store.cells_writer import cells_dir, cells_finished, merge_cells, write_cells
from dirl.store.dataset import CellStore, TileStore

SHOWN_SLIDES = 3
# Tiles of a slide in which the size of its nuclei is measured.
SIZED_TILES = 24


@owning
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
    """Find the nuclei of a store's tiles, or take the user's own (`dirl cells`).

    They are found on the slides, in windows with a halo; each nucleus belongs to the window that holds its
    centroid, has an id that is unique in its slide, and every tile cuts its labels from the slide's.
    Ready-made tiles are segmented one by one, and nuclei that touch a tile's border are flagged. Stain and
    thresholds come from the whole slide's tissue, of ready-made tiles from those of a class that are stained
    alike.

    The user's own nuclei (``labels:DIR``, ``geojson:DIR``) are cut by the tiles in the same way, without
    the slide; run again, files that have changed are read again.

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
    forget_listings()
    how = {"device": device, "batch_size": batch_size}
    segmenter = load_segmenter(config.segmenter, **how)
    segmenter_name = cells_name(config)
    settings = config.model_dump(exclude={"name"}) | {"segmenter_digest": segmenter.digest}
    if not isinstance(segmenter, CellSource):
        settings["mpp"] = segmenter.mpp
    folder = cells_dir(store, segmenter_name)
    made = new_card("cells", settings, {"store": tiles.card.digest})
    card = claim(folder, made, overwrite=overwrite, shared=True)
    todo = [name for name in tiles.slides if not _finished(tiles, segmenter, segmenter_name, card, name)]
    failures: dict[str, DirlError] = {}
    with bar("Finding nuclei", len(tiles), quiet=quiet) as advance:
        advance(int((~np.isin(tiles.slide_ids, todo)).sum()))
        # Another process tells of whole slides only.
        tick = advance if workers <= 1 else None
        for name, result in each(partial(_make, tiles, card.digest, config, how, tick), todo, workers):
            if isinstance(result, Exception):
                if no_room(result):
                    raise result
                failures[name] = explained(result, tiles.slides[name].path)
            advance(0 if tick else int((tiles.slide_ids == name).sum()), note=name)
    finished = [name for name in tiles.slides if name not in failures]
    frames = _frames(tiles, segmenter_name, finished)
    with locked(folder, MERGE_SECONDS):
        unfinish(folder, read_card(folder))
        index = merge_cells(store, segmenter_name)
        summary = write_summary(tiles, segmenter_name, finished)
        found = sum(pq.read_metadata(folder / f"{name}.nuclei.parquet").num_rows for name in finished)
        # "nuclei" is the same number everywhere: those that lie in tiles, at least in part.
        inside = summary["all"].get("nuclei", 0)
        counts = {
            "slides": len(finished),
            "tiles": index.num_rows,
            "nuclei": inside,
            "nuclei_outside_tiles": found - inside,
            "failed": len(failures),
        }
        doubts = summary["resolution_warnings"]
        misplaced = {
            name: one["misplaced"] for name, one in summary["slides"].items() if one.get("misplaced")
        }
        told = {
            "notes": summary["all"].get("notes"),
            "resolution_warnings": doubts,
            "frames": frames,
            "misplaced": misplaced,
        }
        finish(folder, card, counts | {name: value for name, value in told.items() if value})
    _warn_of(doubts)
    _warn_of(misplaced)
    if len(tiles.slides) == 1 and failures:
        raise next(iter(failures.values()))
    if failures:
        raise PartlyFailedError(failures, len(finished))
    return tiles.cells(segmenter_name)


def _frames(tiles: TileStore, segmenter_name: str, slide_ids: list[str]) -> dict[str, str]:
    """Where coordinates were taken to begin, of each slide that QuPath crops; warns of doubts."""
    frames, doubts = {}, {}
    for name in slide_ids:
        file = statistics_file(tiles.path, segmenter_name, name)
        if frame := read_json(file).get("frame") if file.is_file() else None:
            frames[name] = f"{frame['taken']}: {frame['why']}"
            if frame["doubt"]:
                reason = f"{frame['taken']} was taken, but {frame['doubt']}"
                doubts[name] = f"{reason}; frame=qupath or frame=level0 decides"
    _warn_of(doubts)
    return frames


def _warn_of(slides: Mapping[str, str]) -> None:
    """Warn, here and not in a worker, of slides that are doubtful."""
    if slides:
        told = "; ".join(f"{name}: {reason}" for name, reason in list(slides.items())[:SHOWN_SLIDES])
        more = f"; and {len(slides) - SHOWN_SLIDES} more slides" if len(slides) > SHOWN_SLIDES else ""
        warnings.warn(told + more, category=DirlWarning, stacklevel=4)


def _sizes(tiles: TileStore, slide_id: str) -> list[float]:
    """Measure the size of a slide's nuclei, whatever the segmenter finds, in tiles spread over it."""
    rows = np.flatnonzero(tiles.slide_ids == slide_id)
    chosen = rows[:: -(-len(rows) // SIZED_TILES)] if len(rows) else rows
    return blob_sizes([tiles.image(row) for row in chosen.tolist()], tiles.spec.mpp)


def _make(
    tiles: TileStore,
    card_digest: str,
    config: CellsConfig,
    how: Mapping[str, Any],
    tick: Callable[[float], None] | None,
    slide_id: str,
) -> None:
    folder = cells_dir(tiles.path, cells_name(config))
    with item_locked(folder, slide_id):
        card = read_card(folder, "cells")
        if card.digest != card_digest:
            remedy = "give these another name: `dirl cells --name NAME`"
            raise StoreError("another process made these cells anew", where=folder, remedy=remedy)
        segmenter = load_segmenter(config.segmenter, **how)
        if _finished(tiles, segmenter, cells_name(config), card, slide_id):
            return  # another process has made them since
        for place in (folder, folder / "pictures"):
            remove_parts(place, slide_id)
        _segment(tiles, segmenter, config, tick, slide_id)


def _segment(
    tiles: TileStore,
    segmenter: Segmenter | CellSource,
    config: CellsConfig,
    tick: Callable[[float], None] | None,
    slide_id: str,
) -> None:
    folder = cells_dir(tiles.path, cells_name(config))
    # Cells of a file that changed or went are no longer the user's, even if no new one can be read.
    (folder / f"{slide_id}.parquet").unlink(missing_ok=True)
    statistics_file(tiles.path, cells_name(config), slide_id).unlink(missing_ok=True)
    nuclei = _Nuclei()
    draw = partial(draw_nuclei, folder / "pictures" / f"{slide_id}.png")
    told = Told(nuclei.add, draw, tick or silent)
    about: dict[str, Any] = {"blobs_um": _sizes(tiles, slide_id)}
    if isinstance(segmenter, CellSource):
        about |= {"source": fingerprint(segmenter.files(tiles, slide_id))}
        items = own_tiles(tiles, slide_id, segmenter, told)
    else:
        items = found_tiles(tiles, slide_id, segmenter, config, told)
    statistics = Statistics(tiles.spec.mpp)
    write_cells(tiles.path, cells_name(config), slide_id, statistics.watch(items), nuclei.columns)
    about |= {"notes": told.notes} | statistics.summary(nuclei.columns) | told.about
    write_statistics(tiles.path, cells_name(config), slide_id, about)


def _finished(
    tiles: TileStore, segmenter: Segmenter | CellSource, segmenter_name: str, card: Card, slide_id: str
) -> bool:
    """Whether a slide's cells are there and, where the user's own, still those of the files."""
    if not cells_finished(tiles.path, segmenter_name, slide_id, card.files):
        return False
    try:  # the numbers come after the cells: a stop between leaves cells without them
        numbers = read_json(statistics_file(tiles.path, segmenter_name, slide_id))
        if not isinstance(segmenter, CellSource):
            return True
        return bool(numbers["source"] == fingerprint(segmenter.files(tiles, slide_id)))
    except (FileNotFoundError, StoreError, KeyError, TypeError, ConfigError):
        return False


class _Nuclei:
    """Columns of the table of nuclei, filled while the tiles are written."""

    def __init__(self) -> None:
        names = ("id", "x", "y", "area_um2", "class", "touches_border", "tile_id")
        self.columns: dict[str, list[Any]] = {name: [] for name in names}

    def add(self, **columns: list[Any]) -> None:
        for name, values in columns.items():
            self.columns[name] += values
