"""Bags: the features of a slide's tiles, read from one HDF5 file per slide."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.core.card import read_card
from dirl.core.digests import digest
from dirl.core.errors import StoreError
from dirl.core.layout import CARD
from dirl.core.progress import bar
from dirl.features.baselines import FEATURES
from dirl.features.external import check_widths, refuse_part, slide_files
from dirl.features.feature_files import BASELINES_DIR, baselines_of, whole_files
from dirl.features.hdf5 import array_of, names_in, numbers, open_hdf5, strings
from dirl.slides.base import tcga_origin

Floats = NDArray[np.float32]
Strings = NDArray[np.str_]

HELD_BYTES = 2**31
REMEDY = "features are HDF5 files, one a slide, with `features` (n, d) and, if known, `coords` (n, 2)"


@dataclass(frozen=True)
class Bags:
    """The slides that have features.

    Attributes
    ----------
    path
        The directory.
    encoder
        Spec of the encoder; empty if unknown.
    digest
        Digest of what was read.
    sets
        ``features``, and the baselines if there are any.
    slide_ids, patient_ids : ndarray of shape (s,), str
        The patient is that of the file, else of a TCGA barcode in the slide's name, else empty.
    sizes : ndarray of shape (s,), int64
        Tiles of each slide.
    finite : ndarray of shape (s,), bool
        Whether all of a slide's features are finite numbers.
    """

    path: Path
    encoder: str
    digest: str
    sets: tuple[str, ...]
    slide_ids: Strings
    patient_ids: Strings
    sizes: NDArray[np.int64]
    finite: NDArray[np.bool_]
    files: tuple[Path, ...]
    _held: dict[tuple[int, str], Floats] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.files)

    def values(self, number: int, name: str = FEATURES) -> Floats:
        """Features (n, d) of a slide, or a baseline; the first ones stay in memory while there is room."""
        key = (number, name)
        if key not in self._held:
            file = self.files[number]
            path = file if name == FEATURES else self.path / BASELINES_DIR / file.name
            with open_hdf5(path, REMEDY) as handle:
                found: Floats = numbers(handle, name).astype(np.float32)
            if len(found) != self.sizes[number]:
                reason = f"{len(found)} rows for the {self.sizes[number]} tiles of {file.name}"
                raise StoreError(reason, where=path, remedy="make them again: `dirl embed --overwrite`")
            if sum(each.nbytes for each in self._held.values()) + found.nbytes > HELD_BYTES:
                return found
            self._held[key] = found
        return self._held[key]

    def places(self, number: int) -> dict[str, NDArray[Any]]:
        """``tile_id``, ``x`` and ``y`` of a slide's tiles, as far as the file has them."""
        found: dict[str, NDArray[Any]] = {}
        with open_hdf5(self.files[number], REMEDY) as handle:
            if "tile_id" in names_in(handle):
                found["tile_id"] = strings(handle, "tile_id")
            if "coords" in names_in(handle):
                found |= dict(zip("xy", numbers(handle, "coords").T, strict=True))
        return found


def read_bags(path: Path, *, quiet: bool = False) -> Bags:
    """Read the sizes and widths of slides' features, and check them.

    The path is a directory that `dirl embed` made, or a folder of HDF5 files as CLAM and TRIDENT read them.
    There is one file a slide, named after it, in the folder or in its ``h5_files``.

    Raises
    ------
    StoreError
        If there are none, `dirl embed` has not finished, a file is damaged, or they are not equally wide.
    """
    card = read_card(path, "embed") if (path / CARD).exists() else None
    files = slide_files(path, REMEDY) if card is None else whole_files(path, card)
    heads = []
    with bar("Checking features", len(files), quiet=quiet) as advance:
        for file in files:
            with open_hdf5(file, REMEDY) as handle:
                if card is None:
                    refuse_part(handle, file)
                heads.append(_read_head(handle, file.stem, hashed=card is None))
            advance()
    check_widths(files, [head.width for head in heads])
    return Bags(
        path=path,
        encoder=str(card.config.get("encoder", "")) if card else "",
        digest=card.digest if card else digest([[head.slide_id, head.digest] for head in heads]),
        sets=(FEATURES, *(baselines_of(card) if card else ())),
        slide_ids=np.array([head.slide_id for head in heads]),
        patient_ids=np.array([head.patient for head in heads], np.str_),
        sizes=np.array([head.size for head in heads]),
        finite=np.array([head.finite for head in heads]),
        files=files,
    )


@dataclass(frozen=True)
class _Head:
    """What is known of a slide's file without its features."""

    slide_id: str
    size: int
    width: int
    finite: bool
    patient: str
    digest: str


def _read_head(handle: h5py.File, slide_id: str, *, hashed: bool) -> _Head:
    there = names_in(handle)
    values = numbers(handle, FEATURES)
    if values.ndim != 2:
        raise ValueError(f"features of shape {values.shape}, not (n, d)")
    if "coords" in there and (shape := array_of(handle, "coords").shape) != (len(values), 2):
        raise ValueError(f"coords of shape {shape} for {len(values)} tiles, not (n, 2)")
    if "tile_id" in there:
        ids = strings(handle, "tile_id").tolist()
        if len(ids) != len(values) or len(set(ids)) < len(ids):
            raise ValueError(f"{len(set(ids))} different tile_id for {len(values)} tiles")
    patients = set(strings(handle, "patient_id").tolist()) if "patient_id" in there else set()
    if len(patients) > 1:
        raise ValueError(f"its tiles are of {len(patients)} patients")
    return _Head(
        slide_id=slide_id,
        size=len(values),
        width=values.shape[1],
        finite=bool(np.isfinite(values).all()),
        patient=(patients.pop() if patients else "") or tcga_origin(slide_id)[0] or "",
        digest=digest(values.tobytes()) if hashed else "",
    )
