"""Rotation of tiles; only the inscribed disc is visible at any angle."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures

Image = NDArray[np.uint8]

ANGLES = tuple(range(0, 360, 30))
GLASS = 255


def rotate(image: Image, angle: int) -> Image:
    """Turn a tile counter-clockwise, and fill its corners beyond the inscribed disc with glass.

    At multiples of 90° no pixel is interpolated, so only the angle affects an encoder. At other angles a
    slight blur affects it, too.

    Parameters
    ----------
    image : ndarray of shape (h, h, 3), uint8
    angle
        In degrees.

    Returns
    -------
    ndarray of shape (h, h, 3), uint8
    """
    turns, rest = divmod(angle, 90)
    if rest:
        turned = np.asarray(Pictures.fromarray(image).rotate(angle, Pictures.Resampling.BICUBIC))
    else:
        turned = np.rot90(image, turns)
    side = image.shape[0]
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    return np.where((np.hypot(y, x) <= side / 2)[..., None], turned, np.uint8(GLASS))
