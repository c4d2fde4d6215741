"""Features of other tools: HDF5 files for CLAM's and TRIDENT's readers, one per slide."""

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.core.card import Card
from dirl.core.digests import digest
from dirl.core.errors import StoreError
from dirl.features.feature_files import ROWS_DIR, Features, check_features
from dirl.features.hdf5 import names_in, numbers, open_hdf5
from dirl.slides.base import tcga_origin

REMEDY = (
    "features are HDF5 files, one per slide, with `features` (n, d) and `coords` (n, 2) in level-0 pixels"
)


def read_external(path: Path) -> Features:
    """Read the features of slides that another tool embedded, in the order of the slides' names.

    Slides are named after their files, and tiles are ``SLIDE/x_y``. There are no baselines and no hashes.
    Labels are unknown. Patients come from TCGA barcodes, as in `dirl tile`; others are unknown.

    Parameters
    ----------
    path
        A folder with HDF5 files, or with a folder ``h5_files`` of them.

    Raises
    ------
    StoreError
        If there are none, or one is damaged. Also if widths differ, a tile occurs twice, or features are not
        finite.
    """
    files = slide_files(path, REMEDY)
    parts = [_read(file) for file in files]
    check_widths(files, [values.shape[1] for values, _ in parts])
    each = [
        [file.stem, digest(values.tobytes()), digest(coords.tobytes())]
        for file, (values, coords) in zip(files, parts, strict=True)
    ]
    values, coords = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    slides = np.repeat([file.stem for file in files], [len(part[0]) for part in parts])
    ids = [f"{slide}/{x}_{y}" for slide, (x, y) in zip(slides.tolist(), coords.tolist(), strict=True)]
    unknown = np.full(len(values), "", np.str_)
    patients = np.array([tcga_origin(slide)[0] or "" for slide in slides.tolist()], np.str_)
    features = Features(
        path=path,
        card=Card("foreign", {"encoder": ""}, {"encoder": "", "features": digest(each)}),
        values=values,
        baselines={},
        tile_ids=np.array(ids, np.str_),
        slide_ids=slides,
        patient_ids=patients,
        labels=unknown,
        coords=coords,
        ready_made=np.zeros(len(values), bool),
        hashes=None,
    )
    check_features(features, "embed again, or leave them out")
    return features


def slide_files(path: Path, remedy: str) -> tuple[Path, ...]:
    """List the HDF5 files of a folder, or of ``h5_files`` in it, by name.

    Raises
    ------
    StoreError
        If there are none, with the advice `remedy`.
    """
    folder = path / ROWS_DIR if (path / ROWS_DIR).is_dir() else path
    files = tuple(sorted(folder.glob("*.h5")))
    if not files:
        raise StoreError("no features here" if path.exists() else "no such folder", where=path, remedy=remedy)
    return files


def check_widths(files: Sequence[Path], widths: Sequence[int]) -> None:
    """Refuse the first file whose features have another width than those of the first file."""
    for file, width in zip(files, widths, strict=True):
        if width != widths[0]:
            reason = f"features of width {width}, but those of {files[0].name} have width {widths[0]}"
            raise StoreError(reason, where=file, remedy="put only features of one encoder into a folder")


def refuse_part(file: h5py.File, path: Path) -> None:
    """Refuse a file of `dirl embed` without its card, since encoder and baselines would be lost."""
    if "ready_made" in names_in(file):
        reason, remedy = "part of an output of `dirl embed`", "give the directory with its card.json"
        raise StoreError(reason, where=path, remedy=remedy)


def _read(path: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features (n, d) and coords (n, 2) of a slide."""
    with open_hdf5(path, REMEDY) as file:
        refuse_part(file, path)
        values = numbers(file, "features").astype(np.float32)
        coords = numbers(file, "coords").astype(np.int64)
    if values.ndim != 2 or coords.shape != (len(values), 2):
        reason = f"features of shape {values.shape} and coords of shape {coords.shape}"
        raise StoreError(reason, where=path, remedy=REMEDY)
    return values, coords
