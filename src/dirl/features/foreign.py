"""Features that other tools made: HDF5 files as CLAM's and TRIDENT's readers take them, one a slide."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.card import Card, digest
from dirl.errors import StoreError
from dirl.features.h5 import ROWS_DIR, Features, check

REMEDY = "features are HDF5 files, one a slide, with `features` (n, d) and `coords` (n, 2) in level-0 pixels"


def read_foreign(path: Path) -> Features:
    """Read the features of slides that another tool embedded, in the order of the slides' names.

    Slides are called after their files, tiles ``SLIDE/x_y``. There are neither floors nor hashes, and
    patients and labels are unknown.

    Parameters
    ----------
    path
        A folder of HDF5 files, itself or in ``h5_files``.

    Raises
    ------
    StoreError
        If there are none, one is damaged, they are not equally wide, a tile stands in them twice, or
        features are not finite.
    """
    folder = path / ROWS_DIR if (path / ROWS_DIR).is_dir() else path
    files = sorted(folder.glob("*.h5"))
    if not files:
        raise StoreError("no features here" if path.exists() else "no such folder", where=path, remedy=REMEDY)
    parts = [_read(file) for file in files]
    width = parts[0][0].shape[1]
    for file, (values, _) in zip(files, parts, strict=True):
        if values.shape[1] != width:
            reason = f"features of width {values.shape[1]}, those of {files[0].name} are {width} wide"
            raise StoreError(reason, where=file, remedy="keep the features of one encoder in a folder")
    values, coords = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    slides = np.repeat([file.stem for file in files], [len(part[0]) for part in parts])
    ids = [f"{slide}/{x}_{y}" for slide, (x, y) in zip(slides.tolist(), coords.tolist(), strict=True)]
    unknown = np.full(len(values), "", np.str_)
    features = Features(
        path=path,
        card=Card("foreign", {"encoder": ""}, {"encoder": "", "features": _digest(slides, values, coords)}),
        values=values,
        floors={},
        tile_ids=np.array(ids, np.str_),
        slide_ids=slides,
        patient_ids=unknown,
        labels=unknown,
        coords=coords,
        ready_made=np.zeros(len(values), bool),
        hashes=None,
    )
    check(features, "embed again, or leave them out")
    return features


def _digest(*arrays: NDArray[Any]) -> str:
    return digest(b"".join(array.tobytes() for array in arrays))


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (n, d) and coords (n, 2) of a slide."""
    try:
        with h5py.File(path, "r") as file:
            if "ready_made" in file:
                reason, remedy = (
                    "a part of what `dirl embed` made",
                    "name the directory that has its card.json",
                )
                raise StoreError(reason, where=path, remedy=remedy)
            values, coords = file["features"][:].astype(np.float32), file["coords"][:].astype(np.int64)
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise StoreError(f"damaged ({' '.join(str(error).split())})", where=path, remedy=REMEDY) from error
    if values.ndim != 2 or coords.shape != (len(values), 2):
        reason = f"features of shape {values.shape} and coords of shape {coords.shape}"
        raise StoreError(reason, where=path, remedy=REMEDY)
    return values, coords
