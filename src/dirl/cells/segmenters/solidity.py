"""How solid nuclei are, and their neighbourhoods: nuclei are convex, flakes and folds are not."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dirl.cells.segmenters.morphology import Labels

Values = NDArray[np.float64]

# Directions, over half a turn, from which an outline is looked at: the hull's area is right to some percent.
DIRECTIONS = 16
ANGLES = np.arange(2 * DIRECTIONS) * np.pi / DIRECTIONS


def solidity(number: Labels, x: Values, y: Values, count: int) -> Values:
    """Share of their convex hull that the pixels of each number fill.

    The hull is that of the middles of the pixels' sides, drawn by tangents from 32 directions.

    Parameters
    ----------
    number, x, y
        Number and position of each pixel (pixels,).
    count
        Largest number.

    Returns
    -------
    ndarray of shape (count + 1,)
        1 where there are no pixels.
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
    # Length of the side that lies on each tangent, then triangles over them.
    turn = np.pi / DIRECTIONS
    sides = (np.roll(reach, 1, 0) + np.roll(reach, -1, 0) - 2 * reach * np.cos(turn)) / np.sin(turn)
    hull = (reach * sides).sum(0) / 2
    found[here] = np.diff(first, append=len(number)) / hull
    return found


def around(
    values: Values, weights: Values, centres: Values, radius: float, usual: float, few: float
) -> Values:
    """Weighted mean of a value over each place and its neighbours, drawn to what is usual where they are few.

    Parameters
    ----------
    values, weights : ndarray of shape (n,)
    centres : ndarray of shape (n, 2)
    radius
        Of the neighbourhood, in the unit of the centres.
    usual
        What the mean is drawn to.
    few
        How much that weighs, in mean weights.

    Returns
    -------
    ndarray of shape (n,)
    """
    if not len(values):
        return values
    tree = cKDTree(centres)
    near = tree.sparse_distance_matrix(tree, radius, output_type="coo_matrix")  # each is near itself, too
    weight = few * weights.mean()
    total = np.bincount(near.row, weights[near.col], len(values))
    summed = np.bincount(near.row, (weights * values)[near.col], len(values))
    return np.asarray((summed + weight * usual) / (total + weight))
