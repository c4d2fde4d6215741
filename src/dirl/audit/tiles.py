"""Read the tiles of an audit in batches, and turn each nucleus into weights over its tokens."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, resize
from dirl.prior.coverage import pixel_share
from dirl.store.dataset import CellStore, TileStore

REGIONS = ("nuclei", "rest", "glass")
BATCH = 16


@dataclass(frozen=True)
class TileBatch:
    """Some tiles of a store, by their numbers (t,): images (t, 3, h, w), uint8.

    `regions` (t, h, w), uint8, are 0 glass, 1 nuclei and 2 the rest of the tissue. `labels` (t, h, w), int32,
    are nuclei by id.
    """

    indices: NDArray[np.int64]
    images: Tensor
    regions: Tensor
    labels: Tensor


@dataclass(frozen=True)
class AuditTiles:
    """A fixed choice of a store's tiles, with their cells."""

    store: TileStore
    cells: CellStore
    indices: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    @cached_property
    def slide_ids(self) -> NDArray[np.str_]:
        """Slide of each chosen tile."""
        return self.store.slide_ids[self.indices]

    @cached_property
    def sources(self) -> NDArray[np.str_] | None:
        """Slide of each chosen tile, or None; see `source_slides`."""
        return source_slides(self.store, self.indices)

    @cached_property
    def tile_ids(self) -> NDArray[np.str_]:
        """Id of each chosen tile."""
        return self.store.tile_ids[self.indices]

    @cached_property
    def nucleus_um2(self) -> Mapping[str, Tensor]:
        """Area of every nucleus of the chosen slides, by slide and then by id."""
        areas = {}
        for slide in np.unique(self.slide_ids).tolist():
            table = self.cells.nuclei(slide)
            ids = torch.from_numpy(table["id"].to_numpy().astype(np.int64))
            areas[slide] = torch.zeros(int(ids.max()) + 1 if len(ids) else 1)
            areas[slide][ids] = torch.from_numpy(table["area_um2"].to_numpy().astype(np.float32))
        return areas

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that nuclei of the chosen slides have."""
        names = {name for table in self._class_names.values() for name in table.values()}
        return tuple(sorted(names))

    @cached_property
    def class_numbers(self) -> Mapping[str, Tensor]:
        """Number of every nucleus's class in `classes`, from 1, by slide and then by id; 0 for none."""
        numbers = {name: number for number, name in enumerate(self.classes, 1)}
        found = {}
        for slide, areas in self.nucleus_um2.items():
            found[slide] = torch.zeros(len(areas), dtype=torch.int64)
            for nucleus, name in self._class_names[slide].items():
                found[slide][nucleus] = numbers[name]
        return found

    @cached_property
    def _class_names(self) -> Mapping[str, Mapping[int, str]]:
        """Names of classes by slide, and by the id of a nucleus that has one."""
        found = {}
        for slide in np.unique(self.slide_ids).tolist():
            table = self.cells.nuclei(slide, ["id", "class"])
            pairs = zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True)
            found[slide] = {number: name for number, name in pairs if name is not None}
        return found

    def read(self, indices: NDArray[np.int64]) -> TileBatch:
        """Read tiles by their number in the store."""
        chosen = [int(i) for i in indices]
        return TileBatch(
            indices=indices,
            images=torch.from_numpy(np.stack([self.store.image(i) for i in chosen])).permute(0, 3, 1, 2),
            regions=torch.from_numpy(np.stack([self.cells.regions(i) for i in chosen])),
            labels=torch.from_numpy(np.stack([self.cells.labels(i) for i in chosen])),
        )

    def __iter__(self) -> Iterator[TileBatch]:
        for start in range(0, len(self), BATCH):
            yield self.read(self.indices[start : start + BATCH])


def source_slides(store: TileStore, indices: NDArray[np.int64]) -> NDArray[np.str_] | None:
    """Slide of each of a store's tiles; None if some are ready-made, since their folders are classes."""
    slide_ids = store.slide_ids[indices]
    kinds = {store.slides[name].kind for name in np.unique(slide_ids).tolist()}
    return None if "tiles" in kinds else slide_ids


def draw_tiles(store: TileStore, cells: CellStore, count: int, seed: int) -> AuditTiles:
    """Draw `count` tiles without replacement, or all if there are fewer; in the store's order."""
    drawn = np.random.default_rng(seed).choice(len(store), min(count, len(store)), replace=False)
    return AuditTiles(store, cells, np.sort(drawn))


def nucleus_weights(labels: Tensor, patch_px: int, least_px: Tensor) -> Tensor:
    """Shares of each nucleus over the tokens (m, n), for `encoders.measures.relative_attention`.

    Every row sums to 1. `labels` (h, w) are nuclei by id, as the encoder sees them. A nucleus with fewer
    pixels than its `least_px` (ids,) lies mostly outside the tile, and is left out.
    """
    rows, columns = np.arange(labels.shape[0]) // patch_px, np.arange(labels.shape[1]) // patch_px
    wide = labels.shape[1] // patch_px
    tokens = wide * (labels.shape[0] // patch_px)
    here = labels.numpy()
    inside = here > 0
    # Numpy sorts numbers much faster than torch finds the unique ones.
    keys = here[inside].astype(np.int64) * tokens + (rows[:, None] * wide + columns)[inside]
    keys, counts = np.unique(keys, return_counts=True)
    ids, which = np.unique(keys // tokens, return_inverse=True)
    pixels = np.bincount(which, counts, len(ids))
    shares = np.zeros((len(ids), tokens), np.float32)
    shares[which, keys % tokens] = counts / pixels[which]
    return torch.from_numpy(shares[pixels >= least_px.numpy()[ids]])


def batch_weights(encoder: LoadedEncoder, tiles: AuditTiles, batch: TileBatch) -> list[Tensor]:
    """`nucleus_weights` of every tile of a batch. Nuclei that lie mostly outside the tile are left out."""
    labels = resize(encoder, batch.labels)
    tile_px = batch.labels.shape[-1]
    px_um = tiles.store.spec.mpp * (1 if encoder.input_px is None else tile_px / encoder.input_px)
    slides = tiles.store.index["slide_id"].take(batch.indices).to_pylist()
    least_px = {slide: tiles.nucleus_um2[slide] / (2 * px_um**2) for slide in set(slides)}
    return [
        nucleus_weights(label, encoder.patch_px, least_px[slide])
        for label, slide in zip(labels, slides, strict=True)
    ]


def class_shares(encoder: LoadedEncoder, tiles: AuditTiles, batch: TileBatch) -> NDArray[np.float32]:
    """Shares of each token of a batch that nuclei of each of the tiles' classes cover, (c, t, n)."""
    slides = tiles.store.index["slide_id"].take(batch.indices).to_pylist()
    numbers = torch.stack(
        [
            tiles.class_numbers[slide][labels.long()]
            for slide, labels in zip(slides, batch.labels, strict=True)
        ]
    )
    seen = resize(encoder, numbers)
    shares = [pixel_share(seen == number, encoder.patch_px) for number in range(1, len(tiles.classes) + 1)]
    tokens = (seen.shape[-2] // encoder.patch_px) * (seen.shape[-1] // encoder.patch_px)
    empty = np.zeros((0, len(seen), tokens), np.float32)
    return np.stack([share.flatten(1).numpy() for share in shares]) if shares else empty
