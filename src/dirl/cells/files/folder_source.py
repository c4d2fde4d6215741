"""What the sources of nuclei share: a folder of files, and the check of their options."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from dirl.cells.files.frames import FRAMES
from dirl.cells.files.matching import source_files
from dirl.cells.source import FileNuclei
from dirl.core.digests import digest
from dirl.core.errors import ConfigError
from dirl.slides.base import Box
from dirl.store.dataset import TileStore


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
        self._existing()
        spec, options = f"{self.name}:{self.place}", asdict(self)
        mpp, frame = options.get("mpp"), options.get("frame", FRAMES[0])
        if mpp is not None and not (isinstance(mpp, int | float) and mpp > 0):
            raise ConfigError(f"mpp {mpp!r} is not a number above 0", where=spec, remedy="such as mpp=0.25")
        if frame not in FRAMES:
            where = f"segmenter {spec},frame={frame}"
            remedy = f"choose {', '.join(FRAMES[:-1])} or {FRAMES[-1]}"
            raise ConfigError("there is no such frame", where=where, remedy=remedy)

    @property
    def digest(self) -> str:
        """Digest of the options and of the way of reading."""
        options = {name: value for name, value in asdict(self).items() if name != "place"}
        rules = {} if self.rules is None else {"rules": self.rules}
        return digest({"source": self.name} | options | rules)

    def files(self, tiles: TileStore, slide_id: str) -> dict[str | None, Path]:
        """Find the files of a slide; see `dirl.cells.source.CellSource`."""
        return source_files(self._existing(), self.suffixes, tiles, slide_id)

    @abstractmethod
    def read(self, file: Path, size_px: tuple[int, int], mpp: float, bounds: Box | None = None) -> FileNuclei:
        """Read the file of an image; see `dirl.cells.source.CellSource`."""

    def _existing(self) -> Path:
        place = Path(self.place).expanduser()
        if not place.exists():
            raise ConfigError("no such file or folder", where=place, remedy="check the path")
        return place
