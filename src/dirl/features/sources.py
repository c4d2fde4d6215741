"""Sources of tiles to embed: a store, or slides that are cut while they are read."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dirl.config import TileConfig
from dirl.core.digests import digest
from dirl.core.errors import SlideError
from dirl.core.progress import say
from dirl.features.feature_files import STRINGS
from dirl.slides.discovery import SlideInput, TilesInput, add_cohort, find_inputs, given_paths, source_digest
from dirl.slides.tiling import TileSpec
from dirl.store.cut import cut_slide
from dirl.store.dataset import TileStore
from dirl.store.index import SlideRecord
from dirl.store.select import select_tiles
from dirl.store.subsample import subsample_tiles

Rows = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class SlideTiles:
    """Tiles of one slide, in order.

    Attributes
    ----------
    record, spec
        The slide, and the settings of its tiles.
    rows
        Arrays of the tiles: ``coords``, ``index``, ``ready_made``, and the names in `STRINGS`.
    image
        Reads the i-th tile's pixels, ``uint8 (size_px, size_px, 3)``, from any thread.
    regions
        Reads its regions, ``uint8 (size_px, size_px)``; None if they are not needed.
    close
        Closes the slide after all tiles are read.
    """

    record: SlideRecord
    spec: TileSpec
    rows: Rows
    image: Callable[[int], NDArray[np.uint8]]
    regions: Callable[[int], NDArray[np.uint8]] | None
    close: Callable[[], None]

    def __len__(self) -> int:
        return len(self.rows["index"])


class TileSource(Protocol):
    """Slides whose tiles are embedded.

    Attributes
    ----------
    slide_ids
        The slides, in order.
    size_px
        Side of a tile.
    mpp
        Resolution of the tiles, µm/px.
    count
        Number of tiles; None if it is unknown before they are read.
    settings
        Settings for the card of the features: how tiles were chosen or cut.
    counts
        Counts for the card in addition to tiles and slides.
    inputs
        Digests of the tiles' sources.
    """

    slide_ids: tuple[str, ...]
    size_px: int
    mpp: float
    count: int | None
    settings: dict[str, Any]
    counts: dict[str, Any]
    inputs: dict[str, str]

    def open(self, slide_id: str) -> SlideTiles:
        """Open a slide's tiles, from any thread. One that cannot be read or tiled is a `SlideError`."""


class StoreTiles:
    """Tiles of a store, all or some, with the regions that some `cells` give, or without regions.

    `select` is the share of each slide's tiles to select; None is all. `subsample_tiles` takes `tiles` of the
    selected ones.
    """

    def __init__(
        self,
        path: Path,
        *,
        cells: str | None = None,
        select: float | None = None,
        tiles: int | None = None,
        seed: int = 0,
        quiet: bool = False,
    ) -> None:
        self.store = TileStore.open(path)
        self._cells = None if cells is None else self.store.cells(cells)
        self.counts: dict[str, Any] = {}
        among = None
        if select is not None:
            selection = select_tiles(self.store, select, seed, quiet=quiet)
            among, self.counts = selection.numbers, {"selected": selection.counts}
        chosen = subsample_tiles(self.store, tiles, seed, among)
        slides = self.store.slide_ids[chosen]
        self._chosen = {slide: chosen[slides == slide] for slide in np.unique(slides).tolist()}
        self.slide_ids = tuple(self._chosen)
        self.count: int | None = len(chosen)
        self.size_px, self.mpp = self.store.spec.size_px, self.store.spec.mpp
        self.settings: dict[str, Any] = {"tiles": tiles} | ({} if select is None else {"select": select})
        self.inputs = {"store": self.store.digest}
        if self._cells is not None:
            self.settings |= {"cells": cells}
            self.inputs |= {"cells": self._cells.card.digest}

    def open(self, slide_id: str) -> SlideTiles:
        """Tiles of a slide; see `TileSource`."""
        numbers, record, cells = self._chosen[slide_id], self.store.slides[slide_id], self._cells
        table = self.store.index.take(numbers)
        rows = {name: np.array([v or "" for v in table[name].to_pylist()], np.str_) for name in STRINGS}
        rows |= {
            "coords": np.stack([table["x"].to_numpy(), table["y"].to_numpy()], axis=1),
            "index": numbers,
            "ready_made": np.full(len(numbers), record.kind == "tiles"),
        }
        return SlideTiles(
            record,
            self.store.spec,
            rows,
            image=lambda i: self.store.image(int(numbers[i])),
            regions=None if cells is None else lambda i: cells.regions(int(numbers[i])),
            close=lambda: None,
        )


class SlideFiles:
    """Slides that are cut into tiles while they are read, in the same way as by `dirl tile`.

    Nothing is written.

    Parameters
    ----------
    paths
        Slides, or folders of slides: see `dirl.slides.discovery.find_inputs`. None: those of the cohort.
    config
        Settings of the tiles.
    cohort
        CSV file with paths, patients, centres or resolutions: see `dirl.tables.cohort`.
    quiet
        Do not print slides that are found twice.

    Raises
    ------
    SlideError
        If a path does not exist, no slide is found, or there are ready-made tiles.
    ConfigError
        If the table cannot be used, or has none of these slides.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        config: TileConfig | None = None,
        *,
        cohort: Path | None = None,
        quiet: bool = False,
    ) -> None:
        self.config = config or TileConfig()
        found = find_inputs(given_paths(paths, cohort), partial(say, quiet=quiet))
        if cohort is not None:
            found = add_cohort(found, cohort, quiet=quiet)
        self._slides: dict[str, SlideInput] = {}
        for item in sorted(found, key=lambda item: item.slide_id):
            if isinstance(item, TilesInput):
                remedy = "make a store of them with `dirl tile`, and give it with --store"
                raise SlideError("ready-made tiles, not slides", where=item.path.parent, remedy=remedy)
            self._slides[item.slide_id] = item
        self.slide_ids = tuple(self._slides)
        self.count: int | None = None
        self.size_px, self.mpp = self.config.size_px, self.config.mpp
        cut = self.config.model_dump(exclude={"jpeg_quality"})
        self.settings = cut | {"stride_px": self.config.stride_px or self.size_px}
        made_from = [
            [name, source_digest(item), asdict(item.from_table)] for name, item in self._slides.items()
        ]
        self.inputs = {"slides": digest(made_from)}
        self.counts: dict[str, Any] = {}

    def open(self, slide_id: str) -> SlideTiles:
        """Find a slide's tissue and plan its tiles; see `TileSource`."""
        cut = cut_slide(self._slides[slide_id], self.config)
        count = len(cut.tiles)
        known = {"slide_id": slide_id, "patient_id": cut.record.patient_id or "", "label": ""}
        return SlideTiles(
            cut.record,
            cut.spec,
            {
                "tile_id": np.array([tile.tile_id for tile in cut.tiles], np.str_),
                **{name: np.array([value] * count, np.str_) for name, value in known.items()},
                "coords": np.array([(tile.x, tile.y) for tile in cut.tiles], np.int64),
                "index": np.arange(count),
                "ready_made": np.zeros(count, bool),
            },
            image=cut.image,
            regions=None,
            close=cut.close,
        )
