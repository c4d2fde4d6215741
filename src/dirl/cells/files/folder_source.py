"""What the sources of nuclei share: a folder of files, a stated resolution, and a frame."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from dirl.cells.files.matching import source_files
from dirl.cells.source import FileNuclei
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.slides.base import Box
from dirl.store.dataset import TileStore

FRAMES = ("auto", "qupath", "level0")


@dataclass(frozen=True)
class FolderSource(ABC):
    """Files in a folder, named after slides or tiles; see `dirl.cells.files.matching.source_files`.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store.
    """

    place: str

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    # Increased whenever the same file is read in another way.
    rules: ClassVar[int | None] = None

    def __post_init__(self) -> None:
        """Check the place and the options."""
        check_place(self.place)
        spec, options = f"{self.name}:{self.place}", asdict(self)
        mpp, frame = options.get("mpp"), options.get("frame", FRAMES[0])
        if mpp is not None and not (isinstance(mpp, int | float) and mpp > 0):
            raise ConfigError(f"mpp {mpp!r} is not a number above 0", where=spec, remedy="such as mpp=0.25")
        if frame not in FRAMES:
            remedy = f"choose {', '.join(FRAMES[:-1])} or {FRAMES[-1]}"
            raise ConfigError(
                "there is no such frame", where=f"segmenter {spec},frame={frame}", remedy=remedy
            )

    @property
    def digest(self) -> str:
        """Digest of the options and of the way of reading."""
        options = {name: value for name, value in asdict(self).items() if name != "place"}
        rules = {} if self.rules is None else {"rules": self.rules}
        return digest({"source": self.name} | options | rules)

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.source.CellSource`."""
        return source_files(check_place(self.place), self.suffixes, tiles, slide_id)

    @abstractmethod
    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""


@dataclass(frozen=True)
class FramedFolderSource(FolderSource):
    """Files in a folder whose coordinates may begin at the corner of QuPath's image of a slide.

    Attributes
    ----------
    place
        Folder, or the file of the only slide of a store.
    frame
        Origin of the coordinates on a slide that QuPath crops: ``auto``, ``qupath`` or ``level0``.
    """

    frame: str = FRAMES[0]

    def read(self, file: Path, size_px: tuple[int, int], mpp: float) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""
        return self.read_framed(file, size_px, mpp, (0, 0, *size_px))

    @abstractmethod
    def read_framed(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box) -> FileNuclei:
        """Read the file of a slide; see `dirl.cells.source.FramedSource`."""


def check_place(argument: str) -> Path:
    """Return the folder or file that an argument names.

    Raises
    ------
    ConfigError
        If it does not exist.
    """
    place = Path(argument).expanduser()
    if not place.exists():
        raise ConfigError("no such file or folder", where=place, remedy="check the path")
    return place
