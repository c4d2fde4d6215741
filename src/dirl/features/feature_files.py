"""Features in the field's layout: one HDF5 file per slide, rows of ``features`` and ``coords``.

CLAM's and TRIDENT's readers open ``h5_files/SLIDE.h5``. It has ``features`` (n, d), float32, and ``coords``
(n, 2), the tiles' top-left corners in level-0 pixels, with TRIDENT's attributes. Further arrays are:

- ``tile_id``, ``slide_id``, ``patient_id`` and ``label`` (empty if unknown);
- ``ready_made``;
- ``hash``, a perceptual hash;
- ``index``, the tile's number in its store, or in its slide without a store.

``baselines/SLIDE.h5`` has the baselines in the same rows, unless they were left out.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.core.card import Card, read_card
from dirl.core.checked import checked
from dirl.core.errors import StoreError
from dirl.core.files import replacing
from dirl.features.baselines import Baseline
from dirl.features.hdf5 import array_of, names_in, numbers, open_hdf5, strings

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
        Directory that `dirl embed` or another tool made; see `dirl.features.external`.
    card
        Its card, with the encoder.
    values : ndarray of shape (t, d), float32
    baselines
        Arrays of shape (t, k), by `Baseline`. Empty if they were left out, or if another tool made the
        features.
    tile_ids, slide_ids, patient_ids, labels : ndarray of shape (t,), str
        Patient and label are empty if unknown.
    coords : ndarray of shape (t, 2), int64
        Top-left corners (x, y) in level-0 pixels.
    ready_made : ndarray of shape (t,), bool
        Whether the tile was ready-made. Its "slide" is then a folder of tiles of unknown slides.
    hashes : ndarray of shape (t,), uint64
        See `dirl.features.perceptual_hash.perceptual_hash`; None if another tool made the features.
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
    """Write arrays of equal length into an HDF5 file, completely or not at all; attributes are of ``coords``.

    Strings become UTF-8 with the length of the longest, padded with zeros. Strings of variable length would
    need a heap, and the library can loop for ever in a damaged one.
    """
    data = pack_hdf5(datasets, {"coords": attributes} if attributes else {})
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def pack_hdf5(
    datasets: Mapping[str, NDArray[Any]], attributes: Mapping[str, Mapping[str, Any]]
) -> memoryview:
    """Make the content of an HDF5 file; see `write_rows`. Attributes are by array, and by ``/`` of the file.

    It is made in memory: the process would crash if the disk became full while the library has the file open.
    """
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        for name, rows in datasets.items():
            if rows.dtype.kind == "U":
                encoded = np.char.encode(rows, "utf-8")
                fixed = h5py.string_dtype("utf-8", max(1, encoded.itemsize))
                file.create_dataset(name, data=encoded.astype(fixed))
            else:
                file.create_dataset(name, data=rows)
        for name, values in attributes.items():
            file[name].attrs.update(values)
    return data.getbuffer()


def baselines_of(card: Card) -> tuple[str, ...]:
    """Names of the baselines of features."""
    return tuple(Baseline) if card.config.get("baselines", True) else ()


def read_features(path: Path) -> Features:
    """Read the features of all slides of `dirl embed`, in the order of the store or of the slides' names.

    Raises
    ------
    StoreError
        If it is not a directory of features, or is unfinished or damaged. Also if a tile occurs twice, or
        features are not finite.
    """
    card = read_card(path, "embed")
    files = whole_files(path, card)
    baselines = baselines_of(card)
    parts = [read_rows(file, ROWS) for file in files]
    if baselines:
        beside = [read_rows(path / BASELINES_DIR / file.name, baselines) for file in files]
        parts = [part | more for part, more in zip(parts, beside, strict=True)]
    widths = {tuple((name, rows.shape[1:]) for name, rows in part.items()) for part in parts}
    if len(widths) != 1 or sum(len(part["index"]) for part in parts) != card.counts.get("tiles"):
        raise StoreError("files are missing or do not belong together", where=path, remedy=AGAIN)
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if "store" in card.inputs:  # otherwise they are already in order
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
    check_features(features, AGAIN)
    return features


def whole_files(path: Path, card: Card) -> tuple[Path, ...]:
    """List the files of features of `dirl embed` by name, after a check of each and of its baselines.

    Raises
    ------
    StoreError
        If `dirl embed` has not finished, a file is missing or damaged, or `dirl embed` did not write it.
    """
    if card.finished is None:
        raise StoreError("unfinished", where=path, remedy="run the same `dirl embed` again")
    there = {f"{ROWS_DIR}/{file.name}" for file in (path / ROWS_DIR).glob("*.h5")}
    names = sorted(there | {name for name in card.files if name.startswith(f"{ROWS_DIR}/")})
    files = tuple(checked(path, name, card) for name in names)
    for file in files if baselines_of(card) else ():
        checked(path, f"{BASELINES_DIR}/{file.name}", card)
    return files


def check_features(features: Features, remedy: str) -> None:
    """Refuse features that are not finite, and a tile that occurs twice, with the advice `remedy`."""
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
        raise StoreError(f"has tile {twice} twice", where=features.path, remedy=remedy)


def count_rows(path: Path) -> int:
    """Number of tiles in a slide's file. A damaged one is a `StoreError`."""
    with open_hdf5(path, AGAIN) as file:
        return len(array_of(file, "features"))


def read_rows(path: Path, names: tuple[str, ...], remedy: str = AGAIN) -> dict[str, NDArray[Any]]:
    """Read a file of `write_rows`, which must have exactly the arrays `names`.

    Raises
    ------
    StoreError
        If it is damaged or has other arrays, with the advice `remedy`.
    """
    with open_hdf5(path, remedy) as file:
        if set(names_in(file)) != set(names):
            raise ValueError(f"it has {', '.join(names_in(file)) or 'nothing'}, not {', '.join(names)}")
        found = {name: strings(file, name) if name in STRINGS else numbers(file, name) for name in names}
        if len({values.shape[:1] for values in found.values()}) != 1 or not all(map(np.ndim, found.values())):
            raise ValueError(f"arrays of shapes {', '.join(str(values.shape) for values in found.values())}")
        return found
