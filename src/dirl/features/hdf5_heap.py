"""Reading strings of variable length in an HDF5 file, in time bounded by the file's size.

HDF5 stores them in "global heap collections". h5py's reader can loop for ever on a damaged collection. The
layout follows the HDF5 file format specification 3.0, sections III.E and IV.A.
"""

import struct
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

REFERENCE = np.dtype([("length", "<u4"), ("address", "<u8"), ("index", "<u4")])
COLLECTION = struct.Struct("<4sB3xQ")  # signature, version, size of the whole
OBJECT = struct.Struct("<HH4xQ")  # index, reference count, size of the data
ALIGNED = 8
LONGEST = 4096
SAVE = "save it with a fixed length"

Bytes = NDArray[np.uint8]
Collection = dict[int, bytes]


def read_strings(path: Path, dataset: h5py.Dataset) -> list[str]:
    """Read an array (n,) of strings of variable length, whose data are in the file at `path`.

    It is a `ValueError` if they are damaged or compressed, or the file has a user block or short addresses.
    """
    file = dataset.file
    if file.userblock_size or file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError(f"{dataset.name}: strings of variable length in an unusual file; {SAVE}")
    data: Bytes = np.memmap(path, np.uint8, "r")
    collections: dict[int, Collection] = {}
    cache: dict[tuple[int, int, int], str] = {}  # all tiles of a slide refer to the same name
    found = []
    for reference in _references(dataset, data).tolist():
        if reference not in cache:
            cache[reference] = _string(data, collections, *reference)
        found.append(cache[reference])
    return found


def _references(dataset: h5py.Dataset, data: Bytes) -> NDArray[np.void]:
    """Place of each string, shape (n,)."""
    (count,) = dataset.shape
    if dataset.chunks is None:
        start = dataset.id.get_offset()
        if start is None and count:
            raise ValueError(f"{dataset.name}: strings of variable length in the header; {SAVE}")
        return _between(data, start or 0, count * REFERENCE.itemsize).view(REFERENCE)
    if dataset.id.get_create_plist().get_nfilters():
        raise ValueError(f"{dataset.name}: compressed strings of variable length; {SAVE}")
    (side,) = dataset.chunks
    references = np.zeros(count, REFERENCE)

    def take(chunk: Any) -> None:
        values = _between(data, chunk.byte_offset, side * REFERENCE.itemsize).view(REFERENCE)
        (first,) = chunk.chunk_offset
        references[first : first + side] = values[: max(0, count - first)]

    dataset.id.chunk_iter(take)
    return references


def _string(data: Bytes, collections: dict[int, Collection], length: int, address: int, index: int) -> str:
    if length == 0:
        return ""
    if length > LONGEST:
        raise ValueError(f"a name of {length} bytes")
    if address not in collections:
        collections[address] = _collection(data, address)
        if sum(len(each) for held in collections.values() for each in held.values()) > len(data):
            raise ValueError("heaps of strings that overlap")
    held = collections[address].get(index, b"")
    if len(held) < length:
        raise ValueError(f"a string that is not in its heap at byte {address}")
    return held[:length].rstrip(b"\0").decode("utf-8")


def _collection(data: Bytes, address: int) -> Collection:
    """Objects of a heap collection by index."""
    signature, version, size = COLLECTION.unpack(_between(data, address, COLLECTION.size).tobytes())
    if signature != b"GCOL" or version != 1:
        raise ValueError(f"no heap of strings at byte {address}")
    body = _between(data, address, size).tobytes()
    found: Collection = {}
    at = COLLECTION.size
    while at + OBJECT.size <= size:
        index, _, length = OBJECT.unpack_from(body, at)
        if index == 0:  # the rest is free space
            break
        if index in found or at + OBJECT.size + length > size:
            raise ValueError(f"a damaged heap of strings at byte {address}")
        found[index] = body[at + OBJECT.size : at + OBJECT.size + length]
        at += OBJECT.size + -(-length // ALIGNED) * ALIGNED
    return found


def _between(data: Bytes, start: int, length: int) -> Bytes:
    if start + length > len(data):
        raise ValueError(f"bytes {start} to {start + length} of a file of {len(data)}")
    return data[start : start + length]
