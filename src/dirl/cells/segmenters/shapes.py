"""Shapes of nuclei: the ellipse with their second moments, and their solidity.

Nuclei are convex, flakes and folds are not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from dirl.cells.segmenters.morphology import Labels

Values = NDArray[np.float64]

# Slightly more than the variance of positions within a pixel, so that a line of one pixel has an ellipse.
WITHIN_PX = 0.3
# Number of tangent directions over half a turn. The hull's area is correct to a few per cent.
DIRECTIONS = 16
ANGLES = np.arange(2 * DIRECTIONS) * np.pi / DIRECTIONS


@dataclass(frozen=True)
class Ellipses:
    """Ellipses around x, y with the border ``a dx² + b dx dy + c dy² = 1``, in pixels, each (numbers,)."""

    x: Values
    y: Values
    a: Values
    b: Values
    c: Values

    @property
    def area_px(self) -> Values:
        """Areas of the ellipses."""
        return np.asarray(2 * np.pi / np.sqrt(4 * self.a * self.c - self.b**2))

    def place(self, number: Labels, x: Values, y: Values) -> Values:
        """Distance of pixels from the centre of their ellipse, relative to its border: 1 on the border."""
        dx, dy = x - self.x[number], y - self.y[number]
        return np.sqrt(self.a[number] * dx * dx + self.b[number] * dx * dy + self.c[number] * dy * dy)


def ellipses(number: Labels, x: Values, y: Values, count: int) -> Ellipses:
    """Ellipses with the second moments of the pixels of each number, 0 to `count`.

    Each pixel has a number and a position, shape (pixels,).
    """
    pixels = np.maximum(np.bincount(number, minlength=count + 1), 1)
    mean_x, mean_y, xx, yy, xy = (
        np.bincount(number, w, minlength=count + 1) / pixels for w in (x, y, x * x, y * y, x * y)
    )
    xx, yy, xy = xx - mean_x**2 + WITHIN_PX, yy - mean_y**2 + WITHIN_PX, xy - mean_x * mean_y
    determinant = 4 * (xx * yy - xy * xy)
    return Ellipses(mean_x, mean_y, yy / determinant, -2 * xy / determinant, xx / determinant)


def solidity(number: Labels, x: Values, y: Values, count: int) -> Values:
    """Share of its convex hull that the pixels of each number fill.

    The hull contains the midpoints of the pixels' sides, and is bounded by tangents in 32 directions. Each
    pixel has a number and a position, shape (pixels,). The result has shape (count + 1,), and is 1 for
    numbers without pixels.
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
    """Weighted mean (n,) of a value over each place and its neighbours, shrunk to a usual value.

    Centres (n, 2) and the radius have one unit. The weight of `usual` is `few` mean weights.
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
