"""The ellipse with the second moments of each nucleus."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dirl.cells.segmenters.morphology import Labels

# Slightly more than the variance of positions within a pixel, so that a line of one pixel has an ellipse.
WITHIN_PX = 0.3

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Ellipses:
    """Ellipses around x, y with the border ``a dx² + b dx dy + c dy² = 1``.

    Attributes
    ----------
    x, y, a, b, c : ndarray of shape (numbers,)
        Parameters of the ellipse of each number, in pixels.
    """

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

    Parameters
    ----------
    number, x, y
        Number and position of each pixel (pixels,).
    count
        Largest number.
    """
    pixels = np.maximum(np.bincount(number, minlength=count + 1), 1)
    mean_x, mean_y, xx, yy, xy = (
        np.bincount(number, w, minlength=count + 1) / pixels for w in (x, y, x * x, y * y, x * y)
    )
    xx, yy, xy = xx - mean_x**2 + WITHIN_PX, yy - mean_y**2 + WITHIN_PX, xy - mean_x * mean_y
    determinant = 4 * (xx * yy - xy * xy)
    return Ellipses(mean_x, mean_y, yy / determinant, -2 * xy / determinant, xx / determinant)
