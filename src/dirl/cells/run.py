"""`dirl cells`: the nuclei of every tile of a store, from a segmenter or from the user's files."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dirl.cells.base import Segmenter
from dirl.cells.files.frames import STATED
from dirl.cells.files.matching import fingerprint, forget_listings
from dirl.cells.from_files import label_from_files
from dirl.cells.from_segmenter import label_by_segmenter
from dirl.cells.quality.checks import blob_sizes
from dirl.cells.quality.picture import draw_nuclei
from dirl.cells.quality.statistics import (
    CellsSummary,
    ChosenFrame,
    TileSums,
    read_statistics,
    statistics_file,
    write_statistics,
    write_summary,
)
from dirl.cells.registry import cells_name, load_segmenter
from dirl.cells.sink import LabelSink, ignore
from dirl.cells.source import CellSource
from dirl.config import CellsConfig
from dirl.core.card import Card, finish, mark_unfinished, new_card, read_card
from dirl.core.claim import claim
from dirl.core.cohort_part import WHOLE, CohortPart, end_part, refuse_overwrite
from dirl.core.errors import (
    ConfigError,
    DirlError,
    DirlWarning,
    StoreError,
    as_dirl_error,
    failed_counts,
    raise_failures,
)
from dirl.core.files import no_room, remove_parts
from dirl.core.owner import MERGE_SECONDS, item_locked, locked, owning
from dirl.core.parallel import each
from dirl.core.progress import bar
from dirl.store.cells_writer import cells_dir, cells_finished, merge_cells, write_cells
from dirl.store.dataset import CellStore, TileStore
from dirl.store.index import INDEX

SHOWN_SLIDES = 3
# Tiles of a slide in which the size of blobs is measured.
SIZED_TILES = 24


def cells(
    store: Path,
    config: CellsConfig | None = None,
    *,
    workers: int = 1,
    device: str = "auto",
    batch: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> CellStore:
    """Find the nuclei of a store's tiles, or read them from the user's files (`dirl cells`).

    A segmenter works on the slide, in windows with a halo. A nucleus belongs to the window that holds its
    centroid, and its id is unique in the slide. Every tile cuts its labels from the slide's labels. Stain and
    thresholds are measured on the whole slide's tissue.

    Ready-made tiles are segmented one by one, and nuclei that touch a tile's border are flagged. Stain and
    thresholds are measured on tiles of the same class and stain.

    Nuclei from files (``labels:DIR``, ``geojson:DIR``) are cut by the tiles in the same way. They do not need
    the slide. A second run reads files that have changed again.

    A slide has all of its cells or none. A second run makes only what is missing.

    Parameters
    ----------
    store
        Tile store.
    config
        The segmenter, and the size of the windows.
    workers
        Number of processes; each works on one slide at a time.
    device, batch
        Device of a network, and number of windows at a time. By default the device decides the number.
    overwrite
        Replace cells of the same name that have other settings.
    quiet
        Show no progress bar.

    Returns
    -------
    CellStore

    Raises
    ------
    ConfigError
        If the segmenter, its package, its weights or the device does not exist.
    StoreError
        If `store` is not a tile store, or has cells of the same name with other settings.
    SlideError
        If the only slide is missing or cannot be read.
    PartlyFailedError
        If some of several slides failed; the others are finished.
    OSError
        If the disk is full or cannot be written to; finished slides are kept.
    """
    made = cells_part(
        store,
        config,
        WHOLE,
        workers=workers,
        device=device,
        batch=batch,
        overwrite=overwrite,
        quiet=quiet,
    )
    assert made is not None, "all slides are one part, and its end writes the index"
    return made


@owning
def cells_part(
    store: Path,
    config: CellsConfig | None,
    part: CohortPart,
    *,
    workers: int = 1,
    device: str = "auto",
    batch: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> CellStore | None:
    """Do a part of `cells`, as one of several jobs on the same store.

    The part that ends last writes the index and returns the cells. The others return None. `overwrite` is for
    all slides only: a part would remove what another has made.
    """
    refuse_overwrite(part, overwrite)
    config = config or CellsConfig()
    tiles = TileStore.open(store)
    forget_listings()
    if device not in ("auto", "cpu"):  # a segmenter without a network would not look at it
        from dirl.core.device import choose_device

        choose_device(device)
    how = {"device": device, "batch_size": batch}
    segmenter = load_segmenter(config.segmenter, **how)
    name_of_cells = cells_name(config)
    settings = config.model_dump(exclude={"name"}) | {"segmenter_digest": segmenter.digest}
    if not isinstance(segmenter, CellSource):
        settings["mpp"] = segmenter.mpp
    folder = cells_dir(store, name_of_cells)
    made = new_card("cells", settings, {"store": tiles.card.digest})
    card = claim(folder, made, overwrite=overwrite, shared=True)
    mine = [name for name in tiles.slides if part.has(name)]
    todo = [name for name in mine if not _finished(tiles, segmenter, name_of_cells, card, name)]
    failures: dict[str, DirlError] = {}
    count = int(np.isin(tiles.slide_ids, mine).sum())
    with bar("Finding nuclei", count, quiet=quiet) as advance:
        advance(count - int(np.isin(tiles.slide_ids, todo).sum()))
        # Other processes report whole slides only.
        tick = advance if workers <= 1 else None
        for name, result in each(partial(_make, tiles, card.digest, config, how, tick), todo, workers):
            if isinstance(result, Exception):
                if no_room(result):
                    raise result
                failures[name] = as_dirl_error(result, tiles.slides[name].path)
            advance(0 if tick else int((tiles.slide_ids == name).sum()), note=name)
    with locked(folder, MERGE_SECONDS):
        everyone = end_part(folder, part, tiles.slides, failures)
        if everyone is not None:
            finished = [name for name in tiles.slides if name not in everyone]
            if not finished and not (folder / INDEX).exists():
                raise_failures(failures, 0)  # nothing was made, and nothing is left
            summary = _finish(tiles, name_of_cells, card, finished, everyone)
            _warn_of({name: _frame_doubt(frame) for name, frame in summary.frames.items() if frame.doubt})
            _warn_of(summary.resolution_warnings)
            _warn_of(summary.misplaced)
    raise_failures(failures, len(mine) - len(failures))
    return tiles.cells(name_of_cells) if everyone is not None else None


def _finish(
    tiles: TileStore,
    name_of_cells: str,
    card: Card,
    finished: Sequence[str],
    failures: Mapping[str, DirlError],
) -> CellsSummary:
    """Merge the slides' cells, and write their summary and the counts of the card."""
    folder = cells_dir(tiles.path, name_of_cells)
    mark_unfinished(folder, read_card(folder))
    index = merge_cells(tiles.path, name_of_cells)
    summary = write_summary(tiles, name_of_cells, finished)
    found = sum(pq.read_metadata(folder / f"{name}.nuclei.parquet").num_rows for name in finished)
    # Every output counts the nuclei that lie in tiles, at least in part.
    in_tiles = summary.all.nuclei
    counts = {
        "slides": len(finished),
        "tiles": index.num_rows,
        "nuclei": in_tiles,
        "nuclei_outside_tiles": found - in_tiles,
        **failed_counts(failures),
    }
    remarks = {
        "notes": summary.all.notes,
        "resolution_warnings": summary.resolution_warnings,
        "frames": {name: f"{frame.chosen}: {frame.why}" for name, frame in summary.frames.items()},
        "misplaced": summary.misplaced,
    }
    finish(folder, card, counts | {name: value for name, value in remarks.items() if value})
    return summary


def _frame_doubt(frame: ChosenFrame) -> str:
    stated = frame.why == STATED
    remedy = "check the frame that you stated" if stated else "state frame=qupath or frame=level0"
    return f"{frame.why}: {frame.chosen} was chosen, but {frame.doubt}; {remedy}"


def _warn_of(slides: Mapping[str, str]) -> None:
    """Warn of doubtful slides, here and not in a worker."""
    if slides:
        first = "; ".join(f"{name}: {reason}" for name, reason in list(slides.items())[:SHOWN_SLIDES])
        more = len(slides) - SHOWN_SLIDES
        rest = f"; and {more} more {'slide' if more == 1 else 'slides'}" if more > 0 else ""
        warnings.warn(first + rest, category=DirlWarning, stacklevel=4)


def _sizes(tiles: TileStore, slide_id: str) -> list[float]:
    """Measure the sizes of a slide's blobs in evenly spaced tiles, without a segmenter."""
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
            raise StoreError("another process has replaced these cells", where=folder, remedy=remedy)
        segmenter = load_segmenter(config.segmenter, **how)
        if _finished(tiles, segmenter, cells_name(config), card, slide_id):
            return  # another process has made them meanwhile
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
    # Cells of a file that changed or was deleted are wrong, even if no new file can be read.
    (folder / f"{slide_id}.parquet").unlink(missing_ok=True)
    statistics_file(tiles.path, cells_name(config), slide_id).unlink(missing_ok=True)
    sink = LabelSink(partial(draw_nuclei, folder / "pictures" / f"{slide_id}.png"), tick or ignore)
    about: dict[str, object] = {"blobs_um": _sizes(tiles, slide_id)}
    if isinstance(segmenter, CellSource):
        about["source"] = fingerprint(segmenter.files(tiles, slide_id))
        items = label_from_files(tiles, slide_id, segmenter, sink)
    else:
        items = label_by_segmenter(tiles, slide_id, segmenter, config, sink)
    sums = TileSums(tiles.spec.mpp)
    write_cells(tiles.path, cells_name(config), slide_id, sums.counting(items), sink.nuclei.columns)
    about["notes"] = dict(sink.notes)
    if sink.frame is not None:
        about["frame"] = ChosenFrame(chosen=str(sink.frame), why=sink.frame.why, doubt=sink.frame.doubt)
    if sink.misplaced is not None:
        about["misplaced"] = sink.misplaced
    statistics = sums.statistics(sink.nuclei.columns).model_copy(update=about)
    write_statistics(tiles.path, cells_name(config), slide_id, statistics)


def _finished(
    tiles: TileStore, segmenter: Segmenter | CellSource, name_of_cells: str, card: Card, slide_id: str
) -> bool:
    """Whether a slide's cells are written and, if they come from files, whether the files are unchanged."""
    if not cells_finished(tiles.path, name_of_cells, slide_id, card.files):
        return False
    try:  # the numbers are written after the cells, so a stopped run may lack them
        numbers = read_statistics(statistics_file(tiles.path, name_of_cells, slide_id))
        if not isinstance(segmenter, CellSource):
            return True
        return numbers.source == fingerprint(segmenter.files(tiles, slide_id))
    except (FileNotFoundError, StoreError, ConfigError):
        return False
