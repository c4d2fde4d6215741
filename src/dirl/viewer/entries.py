"""The entries of the viewer's list: slides, slides of a store, and pages of ready-made tiles."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import SlideError
from dirl.slides.base import Slide
from dirl.slides.reading import open_slide
from dirl.store.cut import reopen_slide
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord
from dirl.viewer.pictures import Mosaic, PyramidPicture, SlidePicture

PAGE = 1024
GAP = 0.06  # gap between ready-made tiles, as a share of a tile's side
GROUND = (21, 24, 28)  # colour of the page around the picture: static/style.css


@dataclass(frozen=True)
class OpenEntry:
    """An open entry: its picture, and the slide itself if it can be read.

    `x` and `y`, both (t,), are top-left corners of the entry's tiles, and `side_px` is their side, in pixels
    of the picture. `note` tells the reader why the picture is not the slide.
    """

    picture: PyramidPicture
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    side_px: float
    slide: Slide | None
    note: str = ""


@dataclass(frozen=True, eq=False)
class ListEntry:
    """One line of the list. `rows` are the numbers of its tiles in the store, (t,).

    Without a store, `rows` is empty, `store` and `record` are None, and `alone` is the open slide.
    """

    name: str
    slide_id: str
    rows: NDArray[np.int64]
    store: TileStore | None = None
    record: SlideRecord | None = None
    alone: Slide | None = None

    @property
    def ready_made(self) -> bool:
        """Whether it is a page of ready-made tiles, whose place on a slide is unknown."""
        return self.record is not None and self.record.kind == "tiles"

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height of the slide at level 0."""
        if self.alone is not None:
            return self.alone.info.size_px
        assert self.record is not None
        return self.record.size_px

    def open(self) -> OpenEntry:
        """Open it. A slide that is missing or cannot be read is drawn from the store's tiles."""
        if self.store is None or self.record is None:
            assert self.alone is not None
            nothing = np.zeros(0, np.int64)
            return OpenEntry(SlidePicture(self.alone), nothing, nothing, 0.0, self.alone)
        if self.ready_made:
            return _page(self.store, self.rows)
        return _on_slide(self.store, self.record, self.rows)


def entries_of_store(store: TileStore) -> list[ListEntry]:
    """List the slides of a store, and its ready-made tiles in pages of `PAGE`."""
    slide_ids = store.slide_ids
    return [
        entry
        for record in store.slides.values()
        for entry in _entries(store, record, np.flatnonzero(slide_ids == record.slide_id))
    ]


def entry_of_slide(path: Path, mpp_override: float | None) -> ListEntry:
    """Open a slide without a store. It raises a `SlideError` if it cannot, or knows no resolution."""
    slide = open_slide(path, mpp_override)
    return ListEntry(slide.info.slide_id, slide.info.slide_id, np.zeros(0, np.int64), alone=slide)


def _entries(store: TileStore, record: SlideRecord, rows: NDArray[np.int64]) -> Iterator[ListEntry]:
    if record.kind == "slide" or len(rows) <= PAGE:
        yield ListEntry(record.slide_id, record.slide_id, rows, store, record)
        return
    for start in range(0, len(rows), PAGE):
        page = rows[start : start + PAGE]
        name = f"{record.slide_id}, {start + 1}–{start + len(page)}"
        yield ListEntry(name, record.slide_id, page, store, record)


def _page(store: TileStore, rows: NDArray[np.int64]) -> OpenEntry:
    side = store.spec.size_px
    step = side + max(2, round(GAP * side))
    columns = max(1, math.ceil(math.sqrt(1.5 * len(rows))))
    x, y = np.arange(len(rows)) % columns * step, np.arange(len(rows)) // columns * step
    size = (min(columns, len(rows)) * step - (step - side), int(y[-1]) + side) if len(rows) else (side, side)
    mosaic = Mosaic(store, rows, x, y, side_px=float(side), size_px=size, mpp=store.spec.mpp, ground=GROUND)
    return OpenEntry(mosaic, x, y, float(side), None, "ready-made tiles, in the order of the store")


def _on_slide(store: TileStore, record: SlideRecord, rows: NDArray[np.int64]) -> OpenEntry:
    x, y = (store.index[name].to_numpy()[rows] for name in ("x", "y"))
    side = store.spec.size_px * store.spec.mpp / record.mpp
    try:
        slide = reopen_slide(record)
        if slide.info.size_px == record.size_px:
            return OpenEntry(SlidePicture(slide), x, y, side, slide)
        slide.close()
        why = "the file is another slide now"
    except SlideError as error:
        why = error.reason
    red, green, blue = (round(value) for value in record.white)
    ground = (red, green, blue)
    mosaic = Mosaic(store, rows, x, y, side_px=side, size_px=record.size_px, mpp=record.mpp, ground=ground)
    return OpenEntry(mosaic, x, y, side, None, f"drawn from the store's tiles: {record.path.name}: {why}")
