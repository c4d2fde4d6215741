"""Tokens of tiles with what lies under them: nuclei or classes of masks, and single nuclei with classes."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, resize
from dirl.evaluate.tokens.masks import Masks
from dirl.features.pooling import patch_tokens
from dirl.prior.coverage import pixel_share
from dirl.store.dataset import CellStore, TileStore

Floats = NDArray[np.float32]

RGB, RGB_AROUND, UNTRAINED = "rgb", "rgb_around", "untrained"
NUCLEI = "nuclei"
BATCH = 16


@dataclass(frozen=True)
class Area:
    """What covers some pixels of t tiles: nuclei, or a class of masks.

    Attributes
    ----------
    share : ndarray of shape (t, n)
        Share of each token that it covers.
    pixels : ndarray of shape (t, height, width), bool
        Its pixels, in the size of the encoder's image.
    """

    name: str
    share: Floats
    pixels: NDArray[np.bool_]


@dataclass(frozen=True)
class TypedNuclei:
    """The m nuclei that have a class.

    Attributes
    ----------
    share : ndarray of shape (m, n)
        Area of each nucleus over the tokens of its tile; rows sum to 1.
    tile, kind : ndarray of shape (m,)
        The nucleus's tile, and the number of its class.
    classes
        Names of the classes.
    """

    share: Floats
    tile: NDArray[np.int64]
    kind: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Number of nuclei by class, without classes that do not occur."""
        kinds, counts = np.unique(self.kind, return_counts=True)
        return {self.classes[int(i)]: int(n) for i, n in zip(kinds, counts, strict=True)}


@dataclass(frozen=True)
class TokenTiles:
    """Some tiles of a store, and what lies under each of their tokens.

    Attributes
    ----------
    images : Tensor of shape (t, 3, h, w), uint8
    grid
        Rows and columns of the tokens.
    areas
        Nuclei, or the classes of masks.
    nuclei
        Empty with masks.
    """

    images: Tensor
    grid: tuple[int, int]
    areas: tuple[Area, ...]
    nuclei: TypedNuclei


def read_tiles(
    store: TileStore, numbers: NDArray[np.int64], encoder: LoadedEncoder, under: CellStore | Masks
) -> TokenTiles:
    """Read tiles by their numbers, and the cells or masks `under` their tokens, at the encoder's size."""
    images = torch.from_numpy(np.stack([store.image(i) for i in numbers.tolist()])).permute(0, 3, 1, 2)
    if isinstance(under, Masks):
        classes = resize(encoder, torch.from_numpy(under.read(store, numbers)))
        numbers_of: dict[str, list[int]] = {}  # numbers of one name are one class
        for number in torch.unique(classes[classes > 0]).tolist():
            numbers_of.setdefault(under.names.get(number, str(number)), []).append(number)
        areas = tuple(
            _area(name, torch.isin(classes, torch.tensor(same)), encoder) for name, same in numbers_of.items()
        )
        nuclei = _typed_nuclei({}, classes, encoder)
    else:
        labels = np.stack([under.labels(i) for i in numbers.tolist()])
        classes = resize(encoder, torch.from_numpy(labels))
        areas = (_area(NUCLEI, classes > 0, encoder),)
        slides = store.slide_ids[numbers].tolist()
        tables = {slide: _classes_by_id(under, slide) for slide in sorted(set(slides))}
        nuclei = _typed_nuclei({row: tables[slide] for row, slide in enumerate(slides)}, classes, encoder)
    side = encoder.patch_px
    return TokenTiles(images, (classes.shape[1] // side, classes.shape[2] // side), areas, nuclei)


def _area(name: str, pixels: Tensor, encoder: LoadedEncoder) -> Area:
    return Area(name, pixel_share(pixels, encoder.patch_px).flatten(1).numpy(), pixels.numpy())


def _classes_by_id(cells: CellStore, slide: str) -> Mapping[int, str]:
    table = cells.nuclei(slide, ["id", "class"])
    pairs = zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True)
    return {number: name for number, name in pairs if name is not None}


def _typed_nuclei(
    classes_of_tile: Mapping[int, Mapping[int, str]], labels: Tensor, encoder: LoadedEncoder
) -> TypedNuclei:
    """Take the nuclei with a class in tiles of labels (t, h, w); classes by id, for each tile."""
    names = tuple(sorted({name for known in classes_of_tile.values() for name in known.values()}))
    tokens = (labels.shape[1] // encoder.patch_px) * (labels.shape[2] // encoder.patch_px)
    shares, tiles, kinds = [np.empty((0, tokens), np.float32)], [], []
    for row, known in classes_of_tile.items():
        for nucleus in torch.unique(labels[row][labels[row] > 0]).tolist() if known else ():
            if nucleus not in known:
                continue
            under = pixel_share(labels[row] == nucleus, encoder.patch_px).flatten().numpy()
            shares.append((under / under.sum())[None])
            tiles.append(row)
            kinds.append(names.index(known[nucleus]))
    return TypedNuclei(np.concatenate(shares), np.array(tiles, np.int64), np.array(kinds, np.int64), names)


def token_features(tiles: TokenTiles, encoder: LoadedEncoder, name: str) -> Floats:
    """Features of all tokens ``(t, n, d)``: of an encoder, or a baseline of colour by its name."""
    if name in (RGB, RGB_AROUND):
        pixels = resize(encoder, tiles.images.float() / 255).permute(0, 2, 3, 1).numpy()
        return token_colours(pixels, tiles.grid, around=name == RGB_AROUND)
    parts = [
        patch_tokens(encoder, tiles.images[start : start + BATCH]).cpu().numpy()
        for start in range(0, len(tiles.images), BATCH)
    ]
    return np.concatenate(parts)


def token_colours(pixels: Floats, grid: tuple[int, int], *, around: bool) -> Floats:
    """Colours of tokens ``(t, n, 9 or 81)``: mean, deviation and optical density of red, green and blue.

    `pixels` are ``(t, h, w, 3)`` in 0..1. With `around` also those of the eight neighbours, at the border of
    the token itself in their place.
    """
    rows, columns = grid
    count, height, width, _ = pixels.shape
    blocks = pixels.reshape(count, rows, height // rows, columns, width // columns, 3)
    mean, deviation = blocks.mean((2, 4)), blocks.std((2, 4))
    colours = np.concatenate([mean, deviation, -np.log(np.clip(mean, 0.02, 1))], axis=-1)
    if around:
        padded = np.pad(colours, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
        shifts = [(i, j) for i in range(3) for j in range(3)]
        colours = np.concatenate([padded[:, i : i + rows, j : j + columns] for i, j in shifts], axis=-1)
    return colours.reshape(count, rows * columns, -1).astype(np.float32)
