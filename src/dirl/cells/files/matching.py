"""The files of a slide and its tiles, found by their names."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.slides.tiling import dotless
from dirl.store.dataset import TileStore

# Labels may lie next to their images, with this ending before the suffix.
LABELS = ".labels"
TYPE_INFO = "type_info.json"
INSTANSEG = "_instanseg_prediction"
# Endings that tools add to a slide's name: InstanSeg, StarDist, and CellViT++, whose better file comes first.
ENDINGS = (INSTANSEG, "_rois", "_cells", "_cell_detection")
# Names of CellViT's files, which lie in ``SLIDE/cell_detection/``.
PLAIN = ("cells", "cell_detection")


def source_files(
    place: Path, suffixes: Iterable[str], tiles: TileStore, slide_id: str
) -> dict[str | None, Path]:
    """Find the file of a slide, or a file for each of its tiles, by their names in a folder at any depth.

    The name of a file has no suffix and no ``.labels``. A slide's file is called after its slide_id. A tile's
    file is called after its tile_id, or for a ready-made tile after its image. If tiles of several classes
    have the same name, the folders of their files must be called after the classes. If no file has that name,
    files that a tool has named after the slide count; see `_by_tool`.

    A `place` that is a file belongs to the only slide of a store.

    Raises
    ------
    ConfigError
        If there is no file, a tile has none, or there are several files for the same image.
    """
    record = tiles.slides[slide_id]
    if place.is_file():
        if len(tiles.slides) == 1 and record.kind == "slide":
            return {None: place}
        raise ConfigError(
            "one file for a store of several slides or of ready-made tiles",
            where=place,
            remedy="name a folder with a file for each slide, or for each tile, named after it",
        )
    found = _by_name(place, tuple(suffixes))
    of_tools = _by_tool(place, tuple(suffixes))
    of_slide = found.get(dotless(slide_id)) or _of_tool(of_tools, tiles, slide_id)
    if record.kind == "slide" and of_slide:
        return {None: _only(of_slide, slide_id)}
    tile_ids = tiles.index["tile_id"].take(np.flatnonzero(tiles.slide_ids == slide_id)).to_pylist()
    files: dict[str | None, Path] = {}
    for tile_id in tile_ids:
        folder, _, name = tile_id.rpartition("/")
        named = found.get(dotless(name)) or of_tools.get(dotless(name), ())
        here = [file for file in named if dotless(file.parent.name) == folder] if len(named) > 1 else named
        if here:
            files[tile_id] = _only(here, tile_id)
    missing = [tile_id for tile_id in tile_ids if tile_id not in files]
    if len(missing) == len(tile_ids):
        first, *others = suffixes
        kinds = first + (f" (or {', '.join(others)})" if others else "")
        raise ConfigError(
            f"has no file for {slide_id}",
            where=place,
            remedy="add "
            + (f"{slide_id}{kinds}, or " if record.kind == "slide" else "")
            + f"a file for each tile, such as {missing[0]}{first}",
        )
    if missing:
        raise ConfigError(
            f"has no file for {len(missing)} of the {len(tile_ids)} tiles of {slide_id}, "
            f"the first of them {missing[0]}",
            where=place,
            remedy="add a file for each; a tile without nuclei needs one of zeros, or without objects",
        )
    return files


def fingerprint(files: Mapping[str | None, Path]) -> str:
    """Digest of the names and contents of files, and of the files that name their classes."""
    content = {}
    for name, file in files.items():
        beside = [classes_file(file), *type_files(file)]
        content[str(name)] = [digest(file), *(digest(one) if one.is_file() else None for one in beside)]
    return digest(content)


def type_files(file: Path) -> tuple[Path, Path]:
    """Places of HoVer-Net's names of types: ``type_info.json`` in the file's folder, or in the one above."""
    return file.parent / TYPE_INFO, file.parent.parent / TYPE_INFO


def classes_file(file: Path) -> Path:
    """Place of the names of a label file's classes: ``NAME.json`` next to it."""
    return file.with_name(f"{_name(file)}.json")


def forget_listings() -> None:
    """Forget the listings of folders, which are kept so that a run lists each folder once."""
    _by_name.cache_clear()
    _by_tool.cache_clear()


@lru_cache(maxsize=8)
def _by_name(place: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    files = listed(place, suffixes)
    beside = [file for file in files if file.stem.endswith(LABELS)]
    found: dict[str, tuple[Path, ...]] = {}
    for file in beside or files:
        found[dotless(_name(file))] = (*found.get(dotless(_name(file)), ()), file)
    return found


@lru_cache(maxsize=8)
def _by_tool(place: Path, suffixes: tuple[str, ...]) -> dict[str, tuple[Path, ...]]:
    """Group files by the slides that InstanSeg, StarDist and CellViT named them after.

    Of several files of a tool for one slide only the best counts: the one with contours. The slide's name
    has no suffix; CellViT++ cuts it at its first dot.
    """
    ranked: dict[str, list[tuple[tuple[int, bool], Path]]] = {}
    for file in listed(place, suffixes):
        for rank, name in enumerate(_slide_names(file)):
            if name is not None:
                # CellViT's JSON has more information than its GeoJSON.
                ranked.setdefault(name, []).append(((rank, file.suffix.lower() == ".geojson"), file))
    return {
        dotless(name): tuple(file for rank, file in found if rank == min(found)[0])
        for name, found in ranked.items()
    }


def listed(place: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """List the files of a folder, at any depth, that have one of these suffixes; hidden ones are left out."""
    files = sorted(f for f in place.rglob("*") if f.suffix.lower() in suffixes and f.is_file())
    return [file for file in files if not any(part[0] == "." for part in file.relative_to(place).parts)]


def _of_tool(of_tools: Mapping[str, tuple[Path, ...]], tiles: TileStore, slide_id: str) -> tuple[Path, ...]:
    """Files of tools for a slide, by its name, or by the part before a dot if no other slide has it."""
    starts = {name: record.path.name.partition(".")[0] for name, record in tiles.slides.items()}
    start = starts.pop(slide_id)
    found = of_tools.get(dotless(slide_id)) or (
        of_tools.get(dotless(start)) if start not in starts.values() else ()
    )
    others = {dotless(name) for name in tiles.slides}
    return tuple(file for file in found or () if dotless(_name(file)) not in others)


def _name(file: Path) -> str:
    return file.stem.removesuffix(LABELS)


def _only(files: Sequence[Path], name: str) -> Path:
    if len(files) > 1:
        raise ConfigError(
            f"{len(files)} files for {name}", where=", ".join(map(str, files)), remedy="keep one of them"
        )
    return files[0]


def _slide_names(file: Path) -> list[str | None]:
    """Name of the slide by each convention, in order of preference; None where a file does not follow it."""
    parents = file.absolute().parents
    inside = [parent.parent for parent in parents if parent.name == "cell_detection"]
    folder = (inside[0] if inside else parents[0]).name
    ending = [file.stem.removesuffix(end) if file.stem.endswith(end) else None for end in ENDINGS]
    return [*ending, *(folder if file.stem == name else None for name in PLAIN)]
