"""Reading HDF5 files so that damaged and hostile files are refused.

An HDF5 file can take its data from other files, or claim more data than it has. It can also keep strings in a
heap, on which the library's own reader can loop for ever. So every array is checked before it is read, and
other arrays are not touched. `dirl.features.hdf5_heap` reads strings of variable length.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from dirl.core.boundary import parsing
from dirl.features.hdf5_heap import read_strings

# Deflate packs at most 1,032 bytes into one. Smaller arrays cost nothing and are not checked.
LARGEST_RATIO = 1100
SMALL_BYTES = 2**20
NUMBERS = "biuf"


@contextmanager
def open_hdf5(path: Path, remedy: str, what: str = "damaged") -> Iterator[h5py.File]:
    """Open a file for reading. Any failure in the block is a `StoreError`: see `parsing`."""
    with parsing(path, remedy=remedy, what=what), h5py.File(path, "r") as file:
        yield file


def names_in(file: h5py.File) -> list[str]:
    """Names in the file's root. Links are not followed."""
    return list(file)


def array_of(file: h5py.File, name: str) -> h5py.Dataset:
    """Find an array without reading it. It is a `ValueError` if its data are not all in this file."""
    if name not in names_in(file):
        raise ValueError(f"it has {', '.join(names_in(file)) or 'nothing'}, but no {name}")
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise ValueError(f"{name} is a link to another place")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{name} is not an array")
    if found.is_virtual or found.external:
        raise ValueError(f"{name} takes its data from other files")
    _check_claim(file, found, name)
    return found


def numbers(file: h5py.File, name: str) -> NDArray[Any]:
    """Read an array of numbers; others are a `ValueError`, as in `array_of`."""
    found = array_of(file, name)
    if found.dtype.kind not in NUMBERS:
        raise ValueError(f"{name} has values of type {found.dtype}, not numbers")
    values: NDArray[Any] = found[()]
    return values


def strings(file: h5py.File, name: str) -> NDArray[np.str_]:
    """Read a list of strings, of fixed or of variable length, as an array of shape (n,).

    Anything else is a `ValueError`, as in `array_of`.
    """
    found = array_of(file, name)
    kind = h5py.check_string_dtype(found.dtype)
    if kind is None or found.ndim != 1:
        raise ValueError(f"{name} is not a list of strings")
    if kind.length is None:
        return np.array(read_strings(Path(file.filename), found), np.str_)
    return np.char.decode(found[()], "utf-8")


def _check_claim(file: h5py.File, found: h5py.Dataset, name: str) -> None:
    """Compare the claimed size of an array with the bytes in the file."""
    there = file.id.get_filesize()
    stored = found.id.get_storage_size()
    claimed = prod(found.shape or (0,)) * found.id.get_type().get_size()
    if stored > there:
        raise ValueError(f"{name} claims {stored} bytes of a file of {there}")
    if found.chunks is None:
        # A compact array is stored in its own header and has no offset.
        end = (found.id.get_offset() or 0) + claimed
        if claimed and (stored < claimed or end > there):
            raise ValueError(f"{name} claims {claimed} bytes, but the file has {stored} of them")
        return
    chunk = prod(found.chunks) * found.id.get_type().get_size()
    most = SMALL_BYTES + LARGEST_RATIO * stored
    if max(claimed, chunk) > most:
        raise ValueError(f"{name} claims {max(claimed, chunk)} bytes, but the file has {stored} of them")
