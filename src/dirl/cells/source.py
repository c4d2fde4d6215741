"""The protocol of a source that reads nuclei from files, and the nuclei that it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dirl.slides.base import Box
from dirl.store.dataset import TileStore


@dataclass(frozen=True)
class PixelGrid:
    """A square of pixels on an image's grid of another resolution.

    The grid begins at the image's corner. So the centre of a pixel is the same number, to the last digit, in
    every square that holds the pixel.

    Attributes
    ----------
    row, column
        Position of the first pixel.
    side
        Number of pixels along each axis.
    step
        Side of a pixel, in pixels of the image.
    """

    row: int
    column: int
    side: int
    step: float = 1.0


def tile_grid(tiles: TileStore, row: int) -> PixelGrid:
    """Return a tile's pixels on its slide's grid of the tiles' resolution.

    All tiles share this grid. So overlapping tiles, and tiles whose corners lie between its pixels, have the
    same pixels of a nucleus.
    """
    step = tiles.spec.mpp / tiles.slides[str(tiles.index["slide_id"][row])].mpp
    y, x = (tiles.index[name][row].as_py() / step for name in ("y", "x"))
    return PixelGrid(int(np.floor(y + 0.5)), int(np.floor(x + 0.5)), tiles.spec.size_px, step)


@dataclass(frozen=True)
class Frame:
    """The origin of a file's coordinates: the slide's corner, or the corner of QuPath's image.

    Attributes
    ----------
    offset_px
        Offset that was added to x and y, in level-0 pixels.
    why
        Reason for the choice.
    doubt
        Evidence against the choice; None without any.
    """

    name: Literal["level0", "qupath"]
    offset_px: tuple[float, float]
    why: str
    doubt: str | None = None

    def __str__(self) -> str:
        x, y = self.offset_px
        return f"frame {self.name} (offset {x:g}, {y:g})"


@dataclass(frozen=True)
class FileNuclei:
    """The nuclei that a file holds for one image, a slide or a ready-made tile.

    Attributes
    ----------
    ids
        Id of each nucleus, int32 of shape (n,), from 1, unique.
    x, y
        Centroids in pixels of the image (of level 0 on a slide), float of shape (n,).
    area_px
        Areas in these pixels, float of shape (n,).
    touches_border
        Whether each nucleus touches the border of the image, bool of shape (n,).
    classes
        Name of each nucleus's class, or None.
    cut
        Returns the ids at the centres of a grid's pixels, int32 of shape (side, side), 0 for background.
    notes
        Counts of objects that were repaired or left out, by reason.
    frame
        The origin of the coordinates; None if files of this kind have only one.
    """

    ids: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area_px: NDArray[np.float64]
    touches_border: NDArray[np.bool_]
    classes: Sequence[str | None]
    cut: Callable[[PixelGrid], NDArray[np.int32]]
    notes: Mapping[str, int] = field(default_factory=dict)
    frame: Frame | None = None


@runtime_checkable
class CellSource(Protocol):
    """Reads nuclei from files, where a `dirl.cells.base.Segmenter` finds them in pixels.

    Attributes
    ----------
    digest
        Sixteen hex digits that change with the settings. The files have digests of their own: a file that
        changed is read again.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide: ``{None: file}`` for the whole slide, or a file for each tile_id.

        Raises
        ------
        ConfigError
            If there is neither.
        """
        ...

    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image.

        Parameters
        ----------
        file
            One of `files`.
        size_px, mpp
            Width and height of the image, and its resolution in µm/px.
        bounds
            Box of the slide that QuPath shows, in level-0 pixels; None for a tile's file. A source whose
            coordinates may begin at the corner of this box chooses the frame.

        Raises
        ------
        ConfigError
            If it cannot be read or does not fit the image.
        """
        ...
