"""Tokens of tiles with what lies under them: nuclei or not, and single nuclei with their classes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, resize
from dirl.features.pooling import patch_tokens
from dirl.prior.coverage import pixel_share
from dirl.store.dataset import CellStore, TileStore

Floats = NDArray[np.float32]
Embed = Callable[[Tensor], Floats]

RGB, RGB_AROUND, UNTRAINED = "rgb", "rgb_around", "untrained"
BATCH = 16


@dataclass(frozen=True)
class TokenTiles:
    """Some tiles of a store: what lies under each of their n tokens.

    Attributes
    ----------
    images : Tensor of shape (t, 3, h, w), uint8
    grid
        Rows and columns of the n tokens.
    share : ndarray of shape (t, n)
        Share of each token that nuclei cover.
    masks : ndarray of shape (t, height, width), bool
        Pixels of nuclei, as large as the encoder's image.
    nuclei : ndarray of shape (m, n)
        For each nucleus with a class, its area over the tokens of its tile; rows sum to 1.
    nucleus_tile, nucleus_class : ndarray of shape (m,)
        The nucleus's tile, and the number of its class.
    classes
        Names of the classes.
    """

    images: Tensor
    grid: tuple[int, int]
    share: Floats
    masks: NDArray[np.bool_]
    nuclei: Floats
    nucleus_tile: NDArray[np.int64]
    nucleus_class: NDArray[np.int64]
    classes: tuple[str, ...]


def read_tiles(
    store: TileStore, cells: CellStore, numbers: NDArray[np.int64], encoder: LoadedEncoder
) -> TokenTiles:
    """Read tiles by their numbers, at the size that the encoder sees."""
    names = _class_names(cells, sorted(set(store.slide_ids[numbers].tolist())))
    images = torch.from_numpy(np.stack([store.image(i) for i in numbers.tolist()])).permute(0, 3, 1, 2)
    labels = resize(encoder, torch.from_numpy(np.stack([cells.labels(i) for i in numbers.tolist()])))
    masks = labels > 0
    side = encoder.patch_px
    grid = (masks.shape[1] // side, masks.shape[2] // side)
    shares, of_tile, kinds = [np.empty((0, grid[0] * grid[1]), np.float32)], [], []
    for row, number in enumerate(numbers.tolist()):
        known = _classes_by_id(cells, str(store.slide_ids[number]), names)
        for nucleus in np.unique(labels[row][masks[row]].numpy()).tolist():
            if known.get(nucleus) is None:
                continue
            under = pixel_share(labels[row] == nucleus, side).flatten().numpy()
            shares.append((under / under.sum())[None])
            of_tile.append(row)
            kinds.append(known[nucleus])
    return TokenTiles(
        images=images,
        grid=grid,
        share=pixel_share(masks, side).flatten(1).numpy(),
        masks=masks.numpy(),
        nuclei=np.concatenate(shares),
        nucleus_tile=np.array(of_tile, np.int64),
        nucleus_class=np.array(kinds, np.int64),
        classes=names,
    )


def _class_names(cells: CellStore, slides: list[str]) -> tuple[str, ...]:
    found = (cells.nuclei(slide, ["class"])["class"].unique().to_pylist() for slide in slides)
    return tuple(sorted(set().union(*found) - {None}))


def _classes_by_id(cells: CellStore, slide: str, names: tuple[str, ...]) -> Mapping[int, int]:
    if not names:
        return {}
    table = cells.nuclei(slide, ["id", "class"])
    pairs = zip(table["id"].to_pylist(), table["class"].to_pylist(), strict=True)
    return {number: names.index(name) for number, name in pairs if name is not None}


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
