"""Counter-based randomness: numbers and permutations computed from (seed, counter), without a state.

So the number of workers or devices and interruptions change nothing. The mixing function is the finaliser
of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FEISTEL_ROUNDS = 4


def uniforms(seed: int, counters: ArrayLike, count: int) -> NDArray[np.float64]:
    """Draw `count` numbers in [0, 1) for each of b integer counters, such as positions of samples in a run.

    The result, shape (b, count), is a function of seed, counter and column only.
    """
    with np.errstate(over="ignore"):
        rows = _mix(_key(seed) + _GOLDEN * np.asarray(counters).astype(np.uint64))
        cells = _mix(rows[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (cells >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permute(seed: int, positions: ArrayLike, size: int) -> NDArray[np.int64]:
    """Return the images of positions in ``[0, size)`` under a keyed permutation of ``range(size)``.

    It is a balanced Feistel network over the next power of four, repeated until the result is below `size`.
    It needs no memory in proportion to `size`.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = (np.uint64(1) << half) - np.uint64(1)
    keys = [_key(seed * _FEISTEL_ROUNDS + r) for r in range(_FEISTEL_ROUNDS)]
    out = np.array(positions, dtype=np.uint64, ndmin=1)
    if out.size and (int(out.max()) >= size):
        raise ValueError(f"a position is not below {size}")
    walking = np.ones(out.shape, dtype=bool)
    while walking.any():
        left, right = out[walking] >> half, out[walking] & mask
        for key in keys:
            with np.errstate(over="ignore"):
                left, right = right, left ^ (_mix(right + key) & mask)
        out[walking] = (left << half) | right
        walking = out >= np.uint64(size)
    return out.astype(np.int64)


def hashes(seed: int, names: Sequence[str]) -> NDArray[np.uint64]:
    """Return a 64-bit number for each name, a function of seed and name only."""
    words = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    return _mix(np.frombuffer(b"".join(words), dtype="<u8") ^ _key(seed))


def derangement(seed: int, names: Sequence[str], groups: Sequence[str]) -> NDArray[np.int64]:
    """Assign to each item another item of its group, as an index (n,). Every item is assigned once.

    The result depends on the seed and the unique names, not on the order of the items. An item alone in its
    group is assigned to itself.
    """
    keys = hashes(seed, names)
    group = np.unique(np.asarray(groups, dtype=object).astype(str), return_inverse=True)[1]
    order = np.lexsort((keys, group))
    # One cycle through each group in the order of the hashes: no item is its own successor.
    successor = np.empty_like(order)
    bounds = np.flatnonzero(np.diff(group[order])) + 1
    for members in np.split(order, bounds):
        successor[members] = np.roll(members, -1)
    return successor


def _key(seed: int) -> np.uint64:
    with np.errstate(over="ignore"):
        return np.uint64(_mix(np.array([seed % 2**64], dtype=np.uint64) + _GOLDEN)[0])


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
