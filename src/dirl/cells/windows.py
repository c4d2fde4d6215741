"""The nuclei of a slide, found window by window, and kept in memory while a tile may need them."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dirl.cells.base import Finder, Image, NucleiMask
from dirl.slides.base import Slide
from dirl.slides.reading import read_box

# Windows that the segmenter gets at a time.
BATCH = 8


@dataclass(frozen=True)
class TileBoxes:
    """Tiles in pixels of the slide's labels: top-left corners x, y of shape (tiles,), and their side."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    side: float


@dataclass(frozen=True)
class WindowNuclei:
    """The nuclei whose centroid lies in the window at a row and column of windows.

    Attributes
    ----------
    ids
        Unique in the slide.
    x, y
        Centroids, in pixels of the slide's labels.
    classes
        None if the segmenter has no classes.
    """

    row: int
    column: int
    ids: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area_px: NDArray[np.int64]
    classes: list[str | None]


class WindowedLabels:
    """Instance labels of a slide at `mpp` µm/px. Only some rows of windows are in memory.

    A window is read with its halo, so a nucleus must not reach further than that from its centroid.
    """

    def __init__(self, slide: Slide, mpp: float, window_px: int, halo_px: int) -> None:
        self.slide, self.mpp, self.window_px, self.halo_px = slide, mpp, window_px, halo_px
        self.scale = mpp / slide.info.mpp
        self.width, self.height = (max(1, round(side / self.scale)) for side in slide.info.size_px)
        self._bands: dict[int, NDArray[np.int32]] = {}
        self._last_id = 0

    def rows(self, boxes: TileBoxes) -> list[list[int]]:
        """Return the columns of the windows to segment, for each row of windows.

        These are the windows that hold the centroid of a tile's nucleus: it lies at most a halo away.
        """
        size = self.window_px
        columns = [set[int]() for _ in range(-(-self.height // size))]
        last = -(-self.width // size) - 1
        for x, y in zip(boxes.x, boxes.y, strict=True):
            left, right = self._span(x, boxes.side, last)
            top, bottom = self._span(y, boxes.side, len(columns) - 1)
            for row in range(top, bottom + 1):
                columns[row].update(range(left, right + 1))
        return [sorted(row) for row in columns]

    def last_row(self, y: float, side: float) -> int:
        """Last row of windows that a tile needs."""
        return self._span(y, side, -(-self.height // self.window_px) - 1)[1]

    def segment(self, row: int, columns: list[int], find: Finder) -> Iterator[WindowNuclei]:
        """Segment windows of one row, and keep the nuclei whose centroid lies in each window."""
        for start in range(0, len(columns), BATCH):
            batch = columns[start : start + BATCH]
            windows = [self.read(row, column) for column in batch]
            for column, nuclei in zip(batch, find(windows), strict=True):
                yield self._keep(row, column, nuclei)

    def read(self, row: int, column: int) -> Image:
        """Read a window with its halo, uint8 (h, w, 3)."""
        x, y = (i * self.window_px - self.halo_px for i in (column, row))
        side = self.window_px + 2 * self.halo_px
        return read_box(self.slide, x * self.scale, y * self.scale, side, side, self.mpp)

    def cut(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int32]:
        """Labels at the crossings of ascending rows and columns; 0 outside the slide."""
        inside = (columns >= 0) & (columns < self.width)
        taken = columns.clip(0, self.width - 1)
        labels = np.zeros((len(rows), len(columns)), np.int32)
        for band in np.unique(rows // self.window_px):
            if band in self._bands:
                here = rows // self.window_px == band
                labels[here] = self._bands[band][rows[here] - band * self.window_px][:, taken]
        return labels * inside

    def forget_above(self, y: float) -> None:
        """Free the rows of windows above a line; no tile needs them any more."""
        for band in [band for band in self._bands if (band + 1) * self.window_px <= y]:
            del self._bands[band]

    def _span(self, start: float, side: float, last: int) -> tuple[int, int]:
        first = int((start - self.halo_px) // self.window_px)
        return max(first, 0), min(int((start + side + self.halo_px) // self.window_px), last)

    def _keep(self, row: int, column: int, nuclei: NucleiMask) -> WindowNuclei:
        left, top = (i * self.window_px - self.halo_px for i in (column, row))
        numbers = np.arange(1, len(nuclei) + 1)
        centroids = np.reshape(ndimage.center_of_mass(nuclei.labels > 0, nuclei.labels, numbers), (-1, 2))
        # The position of a pixel is its centre.
        y, x = centroids[:, 0] + top + 0.5, centroids[:, 1] + left + 0.5
        kept = (y // self.window_px == row) & (x // self.window_px == column)
        kept &= (y < self.height) & (x < self.width)
        ids, areas = [], []
        for number, box in zip(numbers, ndimage.find_objects(nuclei.labels), strict=True):
            if not kept[number - 1]:
                continue
            area = self._write(nuclei.labels[box] == number, box[0].start + top, box[1].start + left)
            kept[number - 1] = area > 0
            if area:
                ids.append(self._last_id)
                areas.append(area)
        classes: list[str | None] = [None] * len(ids)
        if nuclei.classes is not None:
            classes = [nuclei.class_names[c] for c in nuclei.classes[kept]]
        return WindowNuclei(
            row, column, np.array(ids, np.int32), x[kept], y[kept], np.array(areas, np.int64), classes
        )

    def _write(self, mask: NDArray[np.bool_], top: int, left: int) -> int:
        """Write a nucleus with the next id, and return its area; 0 if most of it lies on other nuclei.

        Two windows see different surroundings of their common border, so both may claim a nucleus on it.
        """
        rows, columns = (side + start for side, start in zip(np.nonzero(mask), (top, left), strict=True))
        inside = (rows >= 0) & (rows < self.height) & (columns >= 0) & (columns < self.width)
        rows, columns = rows[inside], columns[inside]
        parts = []
        for band in np.unique(rows // self.window_px):
            here = rows // self.window_px == band
            labels = self._band(int(band))
            at = rows[here] - band * self.window_px, columns[here]
            free = labels[at] == 0
            parts.append((labels, at[0][free], at[1][free]))
        area = sum(len(part[1]) for part in parts)
        if 2 * area <= len(mask.nonzero()[0]):
            return 0
        self._last_id += 1
        for labels, r, c in parts:
            labels[r, c] = self._last_id
        return area

    def _band(self, band: int) -> NDArray[np.int32]:
        if band not in self._bands:
            height = min(self.window_px, self.height - band * self.window_px)
            # Zeros take memory only where they are overwritten, so bare glass takes none.
            self._bands[band] = np.zeros((height, self.width), np.int32)
        return self._bands[band]
