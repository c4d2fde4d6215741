"""Near-duplicates across a split: tiles in different folds that are almost the same."""

import numpy as np
from numpy.typing import NDArray

BITS = 4
ALIKE = 0.95
# Pairs compared at once: few enough that memory does not grow with the number of tiles.
PAIRS = 2**22


def across_folds(
    hashes: NDArray[np.uint64], colours: NDArray[np.floating], folds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Find pairs of tiles in different folds (t,) that look the same: their numbers (n, 2), ascending.

    Two tiles look the same if at most 4 of the 64 bits of their hashes differ, and their colours overlap by
    .95 or more. Hashes of smooth tiles may agree by chance; their colours seldom agree, too. Colours
    (t, k) are square roots of shares, whose product is the overlap (Bhattacharyya's coefficient).
    """
    found: list[NDArray[np.int64]] = [np.empty((0, 2), np.int64)]
    size = max(1, PAIRS // max(1, len(hashes)))
    for start in range(0, len(hashes), size):
        rows = np.arange(start, min(start + size, len(hashes)))
        near = np.bitwise_count(hashes[rows, None] ^ hashes[None, start:]) <= BITS
        near &= folds[rows, None] != folds[None, start:]
        one, other = np.nonzero(near)
        pairs = np.stack([rows[one], other + start], axis=1)
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        overlap = np.einsum("nk,nk->n", colours[pairs[:, 0]], colours[pairs[:, 1]])
        found.append(pairs[overlap >= ALIKE])
    return np.concatenate(found)
