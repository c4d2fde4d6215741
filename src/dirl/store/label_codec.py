"""Encoding of a tile's nuclei: instance labels (deflated) and region ids (2 bits per pixel)."""

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from dirl.core.boundary import parsing

LABELS_HEADER = struct.Struct("<HHI")  # height, width, number of ids
REGIONS_HEADER = struct.Struct("<HH")  # height, width
MAX_REGION = 3
AGAIN = "make the cells again with `dirl cells`"
# The four ids of each byte, as one number, so that one look-up unpacks a byte.
_UNPACKED = (np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3).astype(np.uint8).view(np.uint32).ravel()


def encode_labels(labels: NDArray[np.integer]) -> bytes:
    """Encode instance labels (h, w): ids that fit in int32, 0 for background.

    A table of the tile's ids comes first. Each pixel holds an index into it, in 16 bits if they suffice. Both
    are deflated with level 1 of zlib; higher levels take several times longer for a few per cent.
    """
    ids, local = np.unique(labels, return_inverse=True)
    if ids[0] < 0 or ids[-1] > np.iinfo(np.int32).max:
        raise ValueError(f"labels must lie in 0..2^31-1, got {ids[0]}..{ids[-1]}")
    if ids[0] == 0:
        ids = ids[1:]
    else:
        local = local + 1
    numbers = local.astype("<u2" if len(ids) < 2**16 else "<u4")
    body = zlib.compress(ids.astype("<i4").tobytes() + numbers.tobytes(), 1)
    return LABELS_HEADER.pack(*labels.shape, len(ids)) + body


def decode_labels(data: bytes) -> NDArray[np.int32]:
    """Decode what `encode_labels` encoded, int32 (h, w). Damaged bytes are a `StoreError`."""
    numbers, ids = decode_numbers(data)
    labels: NDArray[np.int32] = ids.take(numbers)
    return labels


def decode_numbers(data: bytes) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Decode what `encode_labels` encoded, with the nuclei numbered within the tile.

    It returns the tile's nuclei as 1..m without gaps, int32 (h, w), 0 for background. With them comes the id
    in the slide of each number, int32 (m + 1,), 0 for 0. Damaged bytes are a `StoreError`.
    """
    with parsing(None, remedy=AGAIN, what="damaged labels"):
        height, width, count = LABELS_HEADER.unpack_from(data)
        body = zlib.decompress(memoryview(data)[LABELS_HEADER.size :])
        ids = np.concatenate([[0], np.frombuffer(body, "<i4", count)]).astype(np.int32)
        numbers = np.frombuffer(body, "<u2" if count < 2**16 else "<u4", height * width, 4 * count)
        if numbers.max(initial=0) > count:
            raise ValueError(f"number {numbers.max()} of {count}")
        return numbers.reshape(height, width).astype(np.int32), ids


def encode_regions(regions: NDArray[np.integer]) -> bytes:
    """Encode region ids (h, w) from 0 to 3, four pixels per byte."""
    if regions.size and (regions.min() < 0 or regions.max() > MAX_REGION):
        raise ValueError(f"region ids must lie in 0..{MAX_REGION}")
    flat = np.zeros(-(-regions.size // 4) * 4, np.uint8)
    flat[: regions.size] = regions.ravel()
    a, b, c, d = flat.reshape(-1, 4).T
    return REGIONS_HEADER.pack(*regions.shape) + (a | b << 2 | c << 4 | d << 6).tobytes()


def decode_regions(data: bytes) -> NDArray[np.uint8]:
    """Decode what `encode_regions` encoded, uint8 (h, w). Damaged bytes are a `StoreError`."""
    with parsing(None, remedy=AGAIN, what="damaged regions"):
        height, width = REGIONS_HEADER.unpack_from(data)
        packed = np.frombuffer(data, np.uint8, -(-height * width // 4), REGIONS_HEADER.size)
        flat: NDArray[np.uint8] = _UNPACKED[packed].view(np.uint8)
        return flat[: height * width].reshape(height, width)
