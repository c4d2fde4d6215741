"""Arrays on disk, which may be larger than memory."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from dirl.core.full_disk import writing


def array_on_disk(path: Path, shape: tuple[int, ...]) -> "np.memmap[Any, np.dtype[np.float32]]":
    """Make a float32 array of zeros in a ``.npy`` file, and reserve its space on disk.

    Raises
    ------
    NoRoomError
        If the disk has no room for it. Without the check the system would kill the program when it writes.
    """
    with writing(path):
        try:
            array = open_memmap(path, "w+", np.float32, shape)
            if hasattr(os, "posix_fallocate"):  # not on every system
                with path.open("r+b") as handle:
                    os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    return array
