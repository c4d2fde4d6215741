"""A perceptual hash of a tile: near-duplicates have nearly the same bits."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pictures
from scipy.fft import dctn

SIDE_PX = 32
KEPT = 8


def perceptual_hash(image: NDArray[np.uint8]) -> np.uint64:
    """Hash a tile by the signs of its lowest frequencies.

    The tile is reduced to 32 × 32 grey pixels. The lowest 8 × 8 coefficients of its cosine transform are
    compared with their median, without the first one, the brightness. Re-encoding and small changes of size,
    brightness or contrast change few bits. Rotating, flipping or shifting a tile changes many. The image is
    uint8 (h, w, 3).
    """
    grey = Pictures.fromarray(image).convert("L").resize((SIDE_PX, SIDE_PX), Pictures.Resampling.BOX)
    low = dctn(np.asarray(grey, np.float64), norm="ortho")[:KEPT, :KEPT].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False
    return np.uint64(int.from_bytes(np.packbits(bits).tobytes(), "big"))
