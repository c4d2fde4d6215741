"""Solidity of nuclei and of their neighbourhoods: nuclei are convex, flakes and folds are not."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dirl.cells.segmenters.morphology import Labels

Values = NDArray[np.float64]

# Number of tangent directions over half a turn. The hull's area is correct to a few per cent.
DIRECTIONS = 16
ANGLES = np.arange(2 * DIRECTIONS) * np.pi / DIRECTIONS


def solidity(number: Labels, x: Values, y: Values, count: int) -> Values:
    """Share of its convex hull that the pixels of each number fill.

    The hull contains the midpoints of the pixels' sides, and is bounded by tangents in 32 directions.

    Parameters
    ----------
    number, x, y
        Number and position of each pixel (pixels,).
    count
        Largest number.

    Returns
    -------
    ndarray of shape (count + 1,)
        1 for numbers without pixels.
    """
    found = np.ones(count + 1)
    order = np.argsort(number, kind="stable")
    here, first = np.unique(number[order], return_index=True)
    if not len(here):
        return found
    x, y = x[order], y[order]
    reach = np.stack(
        [
            np.maximum.reduceat(np.cos(a) * x + np.sin(a) * y, first)
            + max(abs(np.cos(a)), abs(np.sin(a))) / 2
            for a in ANGLES
        ]
    )
    # Lengths of the sides on the tangents, and then the triangles over them.
    turn = np.pi / DIRECTIONS
    sides = (np.roll(reach, 1, 0) + np.roll(reach, -1, 0) - 2 * reach * np.cos(turn)) / np.sin(turn)
    hull = (reach * sides).sum(0) / 2
    found[here] = np.diff(first, append=len(number)) / hull
    return found


def neighbourhood_mean(
    values: Values, weights: Values, centres: Values, radius: float, usual: float, few: float
) -> Values:
    """Weighted mean of a value over each place and its neighbours, shrunk to a usual value.

    Parameters
    ----------
    values, weights : ndarray of shape (n,)
    centres : ndarray of shape (n, 2)
    radius
        Radius of the neighbourhood, in the unit of the centres.
    usual
        Value to which the mean is shrunk.
    few
        Weight of `usual`, in mean weights.

    Returns
    -------
    ndarray of shape (n,)
    """
    if not len(values):
        return values
    tree = cKDTree(centres)
    # A place is its own neighbour too.
    near = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix")
    weight = few * weights.mean()
    total = np.bincount(near.row, weights[near.col], len(values))
    summed = np.bincount(near.row, (weights * values)[near.col], len(values))
    return np.asarray((summed + weight * usual) / (total + weight))
