"""Outlines of nuclei into labels, and labels into outlines that run along the edges of their pixels.

A pixel belongs to the outline that its middle lies in; a middle on an outline belongs to what lies right of
it or below. So outlines that share a border never both have a pixel of it, nor leave one out, and labels that
became outlines become the same labels again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.files.matching import Grid


@dataclass(frozen=True)
class Outlines:
    """Outlines that are ready to be turned into labels.

    Attributes
    ----------
    ids
        Id of each, int32 of shape (n,).
    tree
        Finds those near a box.
    edges
        Straight pieces of all outlines, holes included, from their upper end to their lower: x, y, x, y in
        pixels of the image, float of shape (m, 4), those of one outline together.
    first
        Where each one's begin in `edges`, int of shape (n + 1,).
    """

    ids: NDArray[np.int32]
    tree: Any
    edges: NDArray[np.float64]
    first: NDArray[np.int64]

    def cut(self, grid: Grid) -> NDArray[np.int32]:
        """Labels at the middles of a grid's pixels, shape (side, side); where two overlap, the first's."""
        side, first_row, first_column = grid.side, grid.row, grid.column
        corners = np.array([first_column, first_row, first_column + side, first_row + side]) * grid.step
        # What is written last to a pixel stays there.
        near = np.sort(self.tree.query(shapely.box(*corners)))[::-1]
        counts = self.first[near + 1] - self.first[near]
        owner, piece = np.repeat(np.arange(len(near)), counts), _ranges(self.first[near], counts)
        # In a system where the middle of the pixel in row i and column j is at (j, i).
        x1, y1, x2, y2 = (self.edges[piece] / grid.step - 0.5).T
        top, bottom = (np.ceil(y).clip(first_row, first_row + side).astype(np.int64) for y in (y1, y2))
        at, row = np.repeat(np.arange(len(piece)), bottom - top), _ranges(top, bottom - top)
        x = x1[at] + (row - y1[at]) * ((x2 - x1)[at] / (y2 - y1)[at])
        row -= first_row
        column = (np.ceil(x) - first_column).clip(0, side).astype(np.int64)
        order = np.lexsort((column, row, owner[at]))
        # Each row crosses an outline an even number of times: in, out, in, out.
        enter, leave = order[::2], order[1::2]
        runs = column[leave] - column[enter]
        labels = np.zeros(side * side, np.int32)
        pixels = _ranges(row[enter] * side + column[enter], runs)
        labels[pixels] = np.repeat(self.ids[near][owner[at[enter]]], runs)
        return labels.reshape(side, side)


def outlines(ids: NDArray[np.int32], shapes: NDArray[Any]) -> Outlines:
    """Take valid polygons and multipolygons, shape (n,), with an id for each."""
    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    same = of_ring[1:] == of_ring[:-1]
    edges = np.hstack([points[:-1], points[1:]])[same]
    owner = of_shape[of_part[of_ring[:-1][same]]]
    # A level piece is crossed by no row of middles; one that is always walked downwards is crossed at the
    # same place, to the last digit, by the outlines on either side of it.
    slanted = edges[:, 1] != edges[:, 3]
    edges, owner = edges[slanted], owner[slanted]
    up = edges[:, 1] > edges[:, 3]
    edges[up] = edges[up][:, [2, 3, 0, 1]]
    first = np.searchsorted(owner, np.arange(len(shapes) + 1))
    return Outlines(ids, shapely.STRtree(shapes), edges, first)


def along_pixels(mask: NDArray[np.bool_], top: int, left: int) -> Any:
    """Outline of a mask (h, w) whose first pixel is at a row and column: holes and parts kept apart.

    Returns
    -------
    shapely.Polygon or shapely.MultiPolygon
        In pixels, x and y; parts that meet at a corner only are two.
    """
    padded = np.pad(mask, 1)
    row, column = np.nonzero(padded[:, 1:] != padded[:, :-1])
    upright = np.stack([column, row - 1, column, row], 1)
    row, column = np.nonzero(padded[1:] != padded[:-1])
    level = np.stack([column - 1, row, column, row], 1)
    pieces = np.concatenate([upright, level]).reshape(-1, 2, 2) + np.array([left, top])
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(pieces.astype(np.float64))))
    # Holes are faces too: what a face is shows at any of its pixels.
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(np.int64).T
    faces = shapely.simplify(faces[mask[y - top, x - left]], 0)
    return faces[0] if len(faces) == 1 else shapely.multipolygons(faces)


def _ranges(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Whole numbers from each start on, as many as its length, one range after another."""
    return np.repeat(start - np.cumsum(length) + length, length) + np.arange(length.sum())
