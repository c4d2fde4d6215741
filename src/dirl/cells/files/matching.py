"""Nuclei that the user has: what a source of them is, and which file belongs to which slide or tile."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dirl.cells.files.frames import Frame
from dirl.cells.files.tool_names import tool_names
from dirl.core.errors import ConfigError
from dirl.core.provenance import digest
from dirl.slides.base import Box
from dirl.slides.tiling import key
from dirl.store.dataset import TileStore

# Labels may lie beside the images that they belong to, under this ending.
BESIDE = ".labels"
TYPE_INFO = "type_info.json"


@dataclass(frozen=True)
class Grid:
    """A square of pixels that labels are wanted at, on an image's own grid of another resolution.

    That grid begins at the image's corner. So a pixel has the same middle, to the last digit, whichever
    square it is asked for in.

    Attributes
    ----------
    row, column
        Of the first pixel.
    side
        How many pixels there are along each axis.
    step
        Side of each in pixels of the image.
    """

    row: int
    column: int
    side: int
    step: float = 1.0


@dataclass(frozen=True)
class OwnNuclei:
    """The nuclei of one image, a slide or a ready-made tile, as the user has them.

    Attributes
    ----------
    ids
        Number of each, int32 of shape (n,), from 1, each once.
    x, y
        Centroids in pixels of the image (of level 0 on a slide), float of shape (n,).
    area_px
        Areas in such pixels, float of shape (n,).
    touches_border
        Whether each touches the border of the image, bool of shape (n,).
    classes
        Name of each one's class, or None.
    cut
        Gives the ids at the middles of a grid's pixels, int32 of shape (side, side), 0 where there is none.
    notes
        What was mended or left out on the way, counted.
    frame
        Where the file's coordinates were taken to begin; None where a file of its kind has one frame only.
    """

    ids: NDArray[np.int32]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    area_px: NDArray[np.float64]
    touches_border: NDArray[np.bool_]
    classes: Sequence[str | None]
    cut: Callable[[Grid], NDArray[np.int32]]
    notes: Mapping[str, int] = field(default_factory=dict)
    frame: Frame | None = None


@runtime_checkable
class CellSource(Protocol):
    """Nuclei that are read from files, not found: what `dirl.cells.base.Segmenter` is to pixels.

    Attributes
    ----------
    digest
        Sixteen hex digits that change with the settings. Files are looked at one by one, and one that has
        changed is read again.
    """

    @property
    def digest(self) -> str: ...  # noqa: D102

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide: its own, as ``{None: file}``, or one for each of its tiles, by tile_id.

        Raises
        ------
        ConfigError
            If there is neither.
        """
        ...

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> OwnNuclei:
        """Read a file that belongs to an image of so many pixels (width, height) and µm/px.

        Raises
        ------
        ConfigError
            If it cannot be read or does not fit the image.
        """
        ...


@runtime_checkable
class FramedSource(CellSource, Protocol):
    """A source whose files may count from the corner of what QuPath shows of a slide."""

    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> OwnNuclei:
        """Read a file as `CellSource.read` does, of a slide that QuPath crops to `bounds`.

        Raises
        ------
        ConfigError
            If it cannot be read or does not fit the image.
        """
        ...


def source_files(
    place: Path, suffixes: Iterable[str], tiles: TileStore, slide_id: str
) -> dict[str | None, Path]:
    """Find a slide's file in a folder, at any depth, or one for each of its tiles, by their names.

    A name is a file's without its suffix and without ``.labels``. The slide's is its slide_id; a tile's is
    its tile_id, of a ready-made one the name of its file. Where tiles of several classes have the same name,
    the folder that a file lies in must have the class's. A `place` that is a file belongs to the only slide
    of a store. Where nothing has the very name, files count that tools name after it; see
    `dirl.cells.files.tool_names`.

    Raises
    ------
    ConfigError
        If there is no file, not one for every tile, or more than one for the same.
    """
    record = tiles.slides[slide_id]
    if place.is_file():
        if len(tiles.slides) == 1 and record.kind == "slide":
            return {None: place}
        raise ConfigError(
            "one file, for a store of several slides or of ready-made tiles",
            where=place,
            remedy="name a folder with a file for each slide, or for each tile, called as they are",
        )
    found = _by_name(place, tuple(suffixes))
    of_tools = _by_tool(place, tuple(suffixes))
    if record.kind == "slide":
        own = found.get(key(slide_id)) or _of_tool(of_tools, tiles, slide_id)
        if own:
            return {None: _only(own, slide_id)}
    tile_ids = tiles.index["tile_id"].take(np.flatnonzero(tiles.slide_ids == slide_id)).to_pylist()
    files: dict[str | None, Path] = {}
    for tile_id in tile_ids:
        folder, _, name = tile_id.rpartition("/")
        named = found.get(key(name)) or of_tools.get(key(name), ())
        here = [file for file in named if key(file.parent.name) == folder] if len(named) > 1 else named
        if here:
            files[tile_id] = _only(here, tile_id)
    missing = [tile_id for tile_id in tile_ids if tile_id not in files]
    if len(missing) == len(tile_ids):
        first, *others = suffixes
        kinds = first + (f" (or {', '.join(others)})" if others else "")
        raise ConfigError(
            f"holds nothing for {slide_id}",
            where=place,
            remedy="put there "
            + (f"{slide_id}{kinds}, or " if record.kind == "slide" else "")
            + f"a file for each tile, such as {missing[0]}{first}",
        )
    if missing:
        raise ConfigError(
            f"holds nothing for {len(missing)} of the {len(tile_ids)} tiles of {slide_id}, "
            f"the first being {missing[0]}",
            where=place,
            remedy="a tile without nuclei needs a file too, of zeros or without objects",
        )
    return files


def check_place(argument: str) -> Path:
    """Return the folder or file that an argument names.

    Raises
    ------
    ConfigError
        If there is none.
    """
    place = Path(argument).expanduser()
    if not place.exists():
        raise ConfigError("no such file or folder", where=place, remedy="check the path")
    return place


def fingerprint(files: Mapping[str | None, Path]) -> str:
    """Digest of which files there are and what they hold, with the files that name their classes."""
    content = {}
    for name, file in files.items():
        beside = [classes_file(file), *type_files(file)]
        content[str(name)] = [digest(file), *(digest(one) if one.is_file() else None for one in beside)]
    return digest(content)


def type_files(file: Path) -> tuple[Path, Path]:
    """Where HoVer-Net's types may be named: ``type_info.json`` in the file's folder, or in the one above."""
    return file.parent / TYPE_INFO, file.parent.parent / TYPE_INFO


def classes_file(file: Path) -> Path:
    """Where the classes of a label file may be named: ``NAME.json`` beside it."""
    return file.with_name(f"{_name(file)}.json")


def forget_listings() -> None:
    """List folders anew: within a run of a command each is listed once, however many slides there are."""
    _by_name.cache_clear()
    _by_tool.cache_clear()


@lru_cache(maxsize=8)
def _by_name(place: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    files = _listed(place, suffixes)
    beside = [file for file in files if file.stem.endswith(BESIDE)]
    found: dict[str, tuple[Path, ...]] = {}
    for file in beside or files:
        found[key(_name(file))] = (*found.get(key(_name(file)), ()), file)
    return found


@lru_cache(maxsize=8)
def _by_tool(place: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    return {key(name): files for name, files in tool_names(_listed(place, suffixes)).items()}


def _listed(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    files = sorted(f for f in place.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    return [file for file in files if not any(part[0] == "." for part in file.relative_to(place).parts)]


def _of_tool(of_tools: Mapping[str, tuple[Path, ...]], tiles: TileStore, slide_id: str) -> tuple[Path, ...]:
    """Files of tools for a slide, by its name, or by the part before a dot that no other slide has."""
    starts = {name: record.path.name.partition(".")[0] for name, record in tiles.slides.items()}
    start = starts.pop(slide_id)
    found = of_tools.get(key(slide_id)) or (of_tools.get(key(start)) if start not in starts.values() else ())
    others = {key(name) for name in tiles.slides}
    return tuple(file for file in found or () if key(_name(file)) not in others)


def _name(file: Path) -> str:
    return file.stem.removesuffix(BESIDE)


def _only(files: Sequence[Path], name: str) -> Path:
    if len(files) > 1:
        raise ConfigError(
            f"{len(files)} files for {name}", where=", ".join(map(str, files)), remedy="leave one of them"
        )
    return files[0]
