"""Slides and folders of ready-made tiles under the paths that a user gives."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dirl.core.boundary import check_name, inside
from dirl.core.errors import ConfigError, DirlWarning, SlideError, StoreError, from_system
from dirl.core.layout import CARD
from dirl.core.progress import say
from dirl.slides.dicom import first_dicom, series_of
from dirl.slides.openslide import is_openslide
from dirl.slides.tiling import dotless
from dirl.tables.cohort import NOT_IN_TABLE, FromTable, cohort_slides, read_cohort

# In a folder the suffix decides, since opening every file of a large cohort takes hours. A file that the user
# gives by name is tried with any suffix.
TIFF = frozenset({".tif", ".tiff"})
SLIDES = frozenset({".svs", ".ndpi", ".mrxs", ".vms", ".vmu", ".scn", ".bif", ".svslide", ".czi", ".dcm"})
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp"})
LABELS = ".labels.png"
FINGERPRINT_BYTES = 1 << 20


@dataclass(frozen=True)
class SlideInput:
    """A slide to tile; `path` is its file, or the folder of its DICOM series."""

    slide_id: str
    path: Path
    from_table: FromTable = NOT_IN_TABLE


@dataclass(frozen=True)
class TilesInput:
    """A folder of ready-made tiles. Its name is their class, and is used as the slide's name."""

    slide_id: str
    path: Path
    files: tuple[Path, ...]
    from_table: FromTable = NOT_IN_TABLE


def find_inputs(
    paths: Sequence[Path], say: Callable[[str], None] = lambda text: None
) -> list[SlideInput | TilesInput]:
    """Find slides and classes of ready-made tiles, sorted within each path.

    A file is a slide. A folder gives all slides in it, at any depth. The files of a DICOM series (``.dcm``)
    are one slide. The data folder of an MRXS, hidden files, and ``NAME.labels.png`` (the labels of an image)
    are skipped.

    A folder is a set of ready-made tiles if it holds no image itself and its sub-folders hold only plain
    images. Each sub-folder is then a class.

    Slides of the same name in different folders get the names of their parent folders as a prefix. A slide
    that is found more than once, for example by a link, is used once, and `say` receives a line.

    Raises
    ------
    SlideError
        If a path does not exist or holds no slide, or if a name is not UTF-8.
    """
    found: dict[tuple[object, ...], SlideInput | TilesInput] = {}
    again: list[tuple[Path, Path]] = []
    for path in map(Path.absolute, paths):
        check_name(path)
        if not path.exists():
            raise SlideError("no such file or folder", where=path, remedy="check the path")
        here = list(_in_folder(path)) if path.is_dir() else [SlideInput(path.stem, path)]
        if not here:
            raise SlideError(
                "holds no slide and no image",
                where=path,
                remedy=f"give a folder with files of {', '.join(sorted(SLIDES | TIFF | IMAGES))}",
            )
        for item in here:
            first = found.setdefault(_slide_identity(item), item)
            if first is not item:
                again.append((item.path, first.path))
    if again:
        path, first_path = again[0]
        same = "" if path == first_path else f", the same as {first_path}"
        say(f"found twice, used once: {len(again)} of the inputs, the first {path}{same}")
    items = list(found.values())
    for item in items:
        for file in (item.path, *(item.files if isinstance(item, TilesInput) else ())):
            check_name(file)
    items = with_unique_names(items)
    for item in items:
        try:
            inside(Path("store"), item.slide_id)
        except StoreError as error:
            reason = f"{item.slide_id!r} cannot be a slide's name: it would lead out of the store"
            raise SlideError(reason, where=item.path, remedy="rename it") from error
    return items


def given_paths(paths: Sequence[Path], cohort: Path | None) -> Sequence[Path]:
    """Return the paths, or if there are none the slides that the cohort's table names."""
    if not paths and cohort is None:
        raise SlideError("none given", where="slides", remedy="name slides, folders or a cohort's table")
    return paths if paths or cohort is None else cohort_slides(cohort)


def add_cohort(
    found: Sequence[SlideInput | TilesInput], path: Path, *, quiet: bool
) -> list[SlideInput | TilesInput]:
    """Add the values of a table to the inputs, and log what was read; see `read_cohort`.

    A `ConfigError` tells that the table cannot be used, has none of these slides, or gives an mpp for
    ready-made tiles.
    """
    table, notes = read_cohort(path, [item.slide_id for item in found])
    for note in notes:
        say(note, quiet=quiet)
    if not any(item.slide_id in table for item in found):
        names = ", ".join(item.slide_id for item in found[:3])
        raise ConfigError(
            f"has none of the {len(found)} slides here ({names}{', …' if len(found) > 3 else ''})",
            where=path,
            remedy="write the file's name without its suffix as slide_id",
        )
    slide_ids = {item.slide_id for item in found}
    unmatched = [name for name in table if name not in slide_ids]
    if unmatched:
        warnings.warn(
            f"{path}: {len(unmatched)} rows match no slide here, first {unmatched[0]!r}; "
            f"{len(slide_ids - set(table))} of {len(slide_ids)} slides have no row",
            category=DirlWarning,
            stacklevel=2,
        )
    inputs = [replace(item, from_table=table.get(item.slide_id, item.from_table)) for item in found]
    ready = next((item for item in inputs if isinstance(item, TilesInput) and item.from_table.mpp), None)
    if ready is not None:
        raise ConfigError(
            f"gives the mpp of {ready.slide_id}, but all ready-made tiles of a store share one mpp",
            where=path,
            remedy="leave it out of the table, and give one for all: `dirl tile --mpp-override UM`",
        )
    return inputs


def source_digest(item: SlideInput | TilesInput) -> str:
    """Digest of a slide's source: a file's size and first megabyte, or a folder's file names and sizes."""
    made = hashlib.sha256()
    if item.path.is_file():
        made.update(str(item.path.stat().st_size).encode())
        with item.path.open("rb") as handle:
            made.update(handle.read(FINGERPRINT_BYTES))
    else:
        files = item.files if isinstance(item, TilesInput) else sorted(item.path.glob("*.dcm"))
        for file in files:
            made.update(f"{file.name} {file.stat().st_size}\n".encode())
    return made.hexdigest()[:16]


def _in_folder(folder: Path) -> Iterator[SlideInput | TilesInput]:
    classes = list(_classes(folder))
    if classes:
        yield from classes
    else:
        yield from _slides(folder, set())


def _classes(folder: Path) -> Iterator[TilesInput]:
    """Classes of ready-made tiles; nothing if the folder holds anything else."""
    files, folders = _listing(folder)
    if any(_is_input(file) for file in files):
        return
    classes = []
    for child in folders:
        files, deeper = _listing(child)
        tiles = [file for file in files if _is_input(file)]
        if not tiles:
            continue
        # Tiles may be TIFFs without a pyramid. Only the first TIFF is checked.
        tiff = next((file for file in tiles if file.suffix.lower() in TIFF), None)
        plain = all(file.suffix.lower() in IMAGES | TIFF for file in tiles)
        if deeper or not plain or (tiff is not None and is_openslide(tiff)):
            return
        classes.append(TilesInput(child.name, child, tuple(tiles)))
    yield from classes


def _identity(path: Path) -> tuple[object, ...]:
    """Identity of a file that links, hard links and relative paths to it share."""
    try:
        status = path.stat()
    except OSError:  # a link that leads nowhere
        status = path.lstat()
    return status.st_dev, status.st_ino


def _slide_identity(item: SlideInput | TilesInput) -> tuple[object, ...]:
    """Identity of a slide's file; for a DICOM slide, of its folder and series."""
    path = item.path
    folder = path if path.is_dir() else path.parent
    dicom = isinstance(item, SlideInput) and (path.is_dir() or path.suffix.lower() == ".dcm")
    series = series_of(first_dicom(path) if path.is_dir() else path) if dicom else None
    return _identity(path) if series is None else (*_identity(folder), series)


def _slides(folder: Path, seen: set[tuple[object, ...]]) -> Iterator[SlideInput]:
    """Slides of a folder at any depth. Each folder is entered once, even if links lead back to it."""
    if _identity(folder) in seen:
        return
    seen.add(_identity(folder))
    files, folders = _listing(folder)
    yield from _dicom_slides(folder, [file for file in files if file.suffix.lower() == ".dcm"])
    for file in files:
        if _is_input(file) and file.suffix.lower() != ".dcm":
            yield SlideInput(file.stem, file)
    data = {file.stem for file in files if file.suffix.lower() == ".mrxs"}
    # Folders come before links to them, so that a slide gets the shorter path.
    for child in sorted(folders, key=lambda child: (child.is_symlink(), child)):
        if child.name not in data:
            yield from _slides(child, seen)


def _dicom_slides(folder: Path, files: Iterable[Path]) -> Iterator[SlideInput]:
    """One slide per series. A single series is named by its folder."""
    files = list(files)
    first: dict[str, Path] = {}
    for file in files:
        series = series_of(file)
        if series is not None:
            first.setdefault(series, file)
    if files and len(first) <= 1:
        yield SlideInput(folder.name, folder)
    else:
        yield from (SlideInput(f"{folder.name}_{file.stem}", file) for file in first.values())


def _listing(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files and folders of a folder, sorted, without hidden ones and outputs of dirl.

    A broken link counts as a file, so that it is reported and not skipped.
    """
    try:
        entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise from_system(error, folder) from error
    folders = [e for e in entries if e.is_dir() and not (e / CARD).is_file()]
    return [e for e in entries if not e.is_dir()], folders


def _is_input(file: Path) -> bool:
    return file.suffix.lower() in SLIDES | TIFF | IMAGES and not file.name.endswith(LABELS)


def with_unique_names(items: list[SlideInput | TilesInput]) -> list[SlideInput | TilesInput]:
    """Prefix names that occur more than once with the names of their parent folders."""
    for depth in range(min(len(item.path.parents) for item in items)):
        count = Counter(dotless(item.slide_id) for item in items)
        if max(count.values()) == 1:
            return items
        items = [
            replace(item, slide_id=f"{item.path.parents[depth].name}_{item.slide_id}")
            if count[dotless(item.slide_id)] > 1
            else item
            for item in items
        ]
    name, _ = Counter(dotless(item.slide_id) for item in items).most_common(1)[0]
    same = [item.path for item in items if dotless(item.slide_id) == name]
    raise SlideError(
        "several slides would have the same name",
        where=", ".join(map(str, same)),
        remedy="rename all but one",
    )
