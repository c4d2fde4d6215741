"""From polygons to labels, and from a mask to a polygon along the edges of its pixels.

A pixel belongs to the polygon that holds its centre. A centre on an edge belongs to the polygon at its right
or below it. So polygons that share an edge never both have a pixel there, nor leave one out. Labels that were
turned into polygons become the same labels again.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from dirl.cells.source import PixelGrid


@dataclass(frozen=True)
class Rasterizer:
    """Polygons, prepared to be turned into labels.

    Attributes
    ----------
    ids
        Id of each polygon, (n,).
    tree
        Finds the polygons near a box.
    edges
        Upper end x, y and lower end x, y of the edges of all polygons and holes, (m, 4). The edges of a
        polygon are together.
    first
        Index in `edges` of the first edge of each polygon, (n + 1,).
    """

    ids: NDArray[np.int32]
    tree: Any
    edges: NDArray[np.float64]
    first: NDArray[np.int64]

    def cut(self, grid: PixelGrid) -> NDArray[np.int32]:
        """Labels at the centres of a grid's pixels, (side, side); the first of overlapping polygons wins."""
        side, first_row, first_column = grid.side, grid.row, grid.column
        corners = np.array([first_column, first_row, first_column + side, first_row + side]) * grid.step
        # The last write to a pixel wins.
        near = np.sort(self.tree.query(shapely.box(*corners)))[::-1]
        counts = self.first[near + 1] - self.first[near]
        owner, piece = np.repeat(np.arange(len(near)), counts), _ranges(self.first[near], counts)
        # Here the centre of the pixel in row i and column j is at (j, i).
        x1, y1, x2, y2 = (self.edges[piece] / grid.step - 0.5).T
        top, bottom = (np.ceil(y).clip(first_row, first_row + side).astype(np.int64) for y in (y1, y2))
        at, row = np.repeat(np.arange(len(piece)), bottom - top), _ranges(top, bottom - top)
        x = x1[at] + (row - y1[at]) * ((x2 - x1)[at] / (y2 - y1)[at])
        row -= first_row
        column = (np.ceil(x) - first_column).clip(0, side).astype(np.int64)
        order = np.lexsort((column, row, owner[at]))
        # A row crosses a polygon an even number of times: in, out, in, out.
        enter, leave = order[::2], order[1::2]
        runs = column[leave] - column[enter]
        labels = np.zeros(side * side, np.int32)
        pixels = _ranges(row[enter] * side + column[enter], runs)
        labels[pixels] = np.repeat(self.ids[near][owner[at[enter]]], runs)
        return labels.reshape(side, side)


def rasterizer(ids: NDArray[np.int32], shapes: NDArray[Any]) -> Rasterizer:
    """Prepare valid polygons and multipolygons, shape (n,), with an id for each."""
    parts, of_shape = shapely.get_parts(shapes, return_index=True)
    rings, of_part = shapely.get_rings(parts, return_index=True)
    points, of_ring = shapely.get_coordinates(rings, return_index=True)
    same = of_ring[1:] == of_ring[:-1]
    edges = np.hstack([points[:-1], points[1:]])[same]
    owner = of_shape[of_part[of_ring[:-1][same]]]
    # No row of centres crosses a level edge. Every other edge is followed downwards, so the polygons on both
    # sides of it have the same crossing, to the last digit.
    slanted = edges[:, 1] != edges[:, 3]
    edges, owner = edges[slanted], owner[slanted]
    up = edges[:, 1] > edges[:, 3]
    edges[up] = edges[up][:, [2, 3, 0, 1]]
    first = np.searchsorted(owner, np.arange(len(shapes) + 1))
    return Rasterizer(ids, shapely.STRtree(shapes), edges, first)


def mask_polygon(mask: NDArray[np.bool_], top: int, left: int) -> Any:
    """Polygon of a mask (h, w) whose first pixel lies at row `top` and column `left`, with holes and parts.

    Parts that meet only at a corner are separate.
    """
    padded = np.pad(mask, 1)
    row, column = np.nonzero(padded[:, 1:] != padded[:, :-1])
    upright = np.stack([column, row - 1, column, row], 1)
    row, column = np.nonzero(padded[1:] != padded[:-1])
    level = np.stack([column - 1, row, column, row], 1)
    pieces = np.concatenate([upright, level]).reshape(-1, 2, 2) + np.array([left, top])
    faces = shapely.get_parts(shapely.polygonize(shapely.linestrings(pieces.astype(np.float64))))
    # Some faces are holes; any pixel of a face shows whether it is one.
    x, y = shapely.get_coordinates(shapely.point_on_surface(faces)).astype(np.int64).T
    faces = shapely.simplify(faces[mask[y - top, x - left]], 0)
    return faces[0] if len(faces) == 1 else shapely.multipolygons(faces)


def _ranges(start: NDArray[np.int64], length: NDArray[np.int64]) -> NDArray[np.int64]:
    """Concatenate ranges of integers, given the start and the length of each."""
    return np.repeat(start - np.cumsum(length) + length, length) + np.arange(length.sum())
