"""Features in the field's layout: one HDF5 file per slide, rows of ``features`` and ``coords``.

``h5_files/SLIDE.h5`` is what CLAM's and TRIDENT's readers open: ``features`` (n, d), float32, and ``coords``
(n, 2), the tiles' top-left corners in level-0 pixels, with TRIDENT's attributes. Beside them stand
``tile_id``, ``slide_id``, ``patient_id`` and ``label`` (empty where unknown), ``ready_made``, ``hash``, a
perceptual hash, and ``index``, the tile's number in its store, or in its slide where there is no store.
``baselines/SLIDE.h5`` holds, row for row, what features are to be compared with, unless it was left out.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.core.checked import checked
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.core.provenance import Card, read_card
from dirl.features.baselines import Baseline
from dirl.features.hdf5 import array_of, names_in, numbers, opened, strings

Floats = NDArray[np.float32]
Strings = NDArray[np.str_]

ROWS_DIR, BASELINES_DIR = "h5_files", "baselines"
STRINGS = ("tile_id", "slide_id", "patient_id", "label")
ROWS = ("features", "coords", "index", "ready_made", "hash", *STRINGS)
AGAIN = "make them again: `dirl embed --overwrite`"


@dataclass(frozen=True)
class Features:
    """Features of tiles, in the order of their store, or of the slides' names.

    Attributes
    ----------
    path
        Directory that `dirl embed` made, or of another tool's files: see `dirl.features.external`.
    card
        Its card, which names the encoder.
    values : ndarray of shape (t, d), float32
    baselines
        Arrays of shape (t, k), by `Baseline`; none where they were left out, or where another
        tool made the features.
    tile_ids, slide_ids, patient_ids, labels : ndarray of shape (t,), str
        Patient and label are empty where the store knows none.
    coords : ndarray of shape (t, 2), int64
        Top-left corners (x, y) in level-0 pixels.
    ready_made : ndarray of shape (t,), bool
        The tile came ready-made, so that its "slide" is a folder of tiles of unknown slides.
    hashes : ndarray of shape (t,), uint64
        See `dirl.features.perceptual_hash.perceptual_hash`; None where another tool made the features.
    """

    path: Path
    card: Card
    values: Floats
    baselines: Mapping[str, Floats]
    tile_ids: Strings
    slide_ids: Strings
    patient_ids: Strings
    labels: Strings
    coords: NDArray[np.int64]
    ready_made: NDArray[np.bool_]
    hashes: NDArray[np.uint64] | None

    def __len__(self) -> int:
        return len(self.values)


def write_rows(
    path: Path, datasets: Mapping[str, NDArray[Any]], attributes: Mapping[str, Any] | None = None
) -> None:
    """Write arrays of equal length into an HDF5 file, whole or not at all.

    Parameters
    ----------
    path
        The file.
    datasets
        Arrays by name; strings become UTF-8 of the length of the longest, padded with zeros. Strings of
        variable length would lie in a heap, and the library loops for ever in a damaged one.
    attributes
        Attributes of the dataset ``coords``.
    """
    # In memory: a full disk while the library holds the file open would crash the process.
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, rows in datasets.items():
            if rows.dtype.kind == "U":
                encoded = np.char.encode(rows, "utf-8")
                fixed = h5py.string_dtype("utf-8", max(1, encoded.itemsize))
                file.create_dataset(name, data=encoded.astype(fixed))
            else:
                file.create_dataset(name, data=rows)
        for name, value in (attributes or {}).items():
            file["coords"].attrs[name] = value
    with replacing(path) as temporary:
        temporary.write_bytes(data.getbuffer())


def baselines_of(card: Card) -> tuple[str, ...]:
    """Names of the baselines that stand beside features."""
    return tuple(Baseline) if card.config.get("baselines", True) else ()


def read_features(path: Path) -> Features:
    """Read what `dirl embed` wrote, all slides, in the order of the store, or of the slides' names.

    Raises
    ------
    StoreError
        If it is no directory of features, is unfinished or damaged, holds a tile twice, or features that are
        not finite.
    """
    card = read_card(path, "embed")
    if card.finished is None:
        raise StoreError("unfinished", where=path, remedy="run the same `dirl embed` again")
    files = whole_files(path, card)
    baselines = baselines_of(card)
    parts = [read_rows(file, ROWS, AGAIN) for file in files]
    if baselines:
        beside = [read_rows(path / BASELINES_DIR / file.name, baselines, AGAIN) for file in files]
        parts = [part | more for part, more in zip(parts, beside, strict=True)]
    widths = {tuple((name, rows.shape[1:]) for name, rows in part.items()) for part in parts}
    if len(widths) != 1 or sum(len(part["index"]) for part in parts) != card.counts.get("tiles"):
        raise StoreError("files are missing or do not belong together", where=path, remedy=AGAIN)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if "store" in card.inputs:  # else they stand in their order already
        order = np.argsort(rows["index"])
        rows = {name: values[order] for name, values in rows.items()}
    features = Features(
        path=path,
        card=card,
        values=rows["features"],
        baselines={name: rows[name] for name in baselines},
        tile_ids=rows["tile_id"],
        slide_ids=rows["slide_id"],
        patient_ids=rows["patient_id"],
        labels=rows["label"],
        coords=rows["coords"],
        ready_made=rows["ready_made"],
        hashes=rows["hash"],
    )
    check(features, AGAIN)
    return features


def whole_files(path: Path, card: Card) -> tuple[Path, ...]:
    """List the files of features that `dirl embed` made, by name, after a check of each and of its baselines.

    Raises
    ------
    StoreError
        If one is missing or damaged, or was put there by someone else.
    """
    there = {f"{ROWS_DIR}/{file.name}" for file in (path / ROWS_DIR).glob("*.h5")}
    names = sorted(there | {name for name in card.files if name.startswith(f"{ROWS_DIR}/")})
    files = tuple(checked(path, name, card) for name in names)
    for file in files if baselines_of(card) else ():
        checked(path, f"{BASELINES_DIR}/{file.name}", card)
    return files


def check(features: Features, remedy: str) -> None:
    """Check that features are finite and no tile stands in them twice.

    Raises
    ------
    StoreError
        If not so; `remedy` says what to do then.
    """
    for name, values in (("features", features.values), *features.baselines.items()):
        bad = ~np.isfinite(values).all(axis=1)
        if bad.any():
            first = features.tile_ids[int(bad.argmax())]
            raise StoreError(
                f"{name} of {bad.sum()} tiles are not finite, first of {first}",
                where=features.path,
                remedy=remedy,
            )
    ids, counts = np.unique(features.tile_ids, return_counts=True)
    if (counts > 1).any():
        twice = ids[int(counts.argmax())]
        raise StoreError(f"holds tile {twice} twice", where=features.path, remedy=remedy)


def count_rows(path: Path, remedy: str) -> int:
    """How many tiles a slide's file holds.

    Raises
    ------
    StoreError
        If it is damaged; `remedy` says what to do then.
    """
    with opened(path, remedy) as file:
        return len(array_of(file, "features"))


def read_rows(path: Path, names: tuple[str, ...], remedy: str) -> dict[str, NDArray[Any]]:
    """Read what `write_rows` wrote.

    Raises
    ------
    StoreError
        If it is damaged, or holds other arrays than those of these names; `remedy` says what to do then.
    """
    with opened(path, remedy) as file:
        if set(names_in(file)) != set(names):
            raise ValueError(f"it holds {', '.join(names_in(file)) or 'nothing'}, not {', '.join(names)}")
        found = {name: strings(file, name) if name in STRINGS else numbers(file, name) for name in names}
        if len({values.shape[:1] for values in found.values()}) != 1 or not all(map(np.ndim, found.values())):
            raise ValueError(f"arrays of shapes {', '.join(str(values.shape) for values in found.values())}")
        return found
