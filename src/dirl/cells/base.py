"""What a segmenter is and what it returns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class NucleiMask:
    """The nuclei of one image.

    Attributes
    ----------
    labels
        Instance labels, int32 of shape (h, w): 0 is no nucleus, the nuclei are 1..n without gaps.
    classes
        Class of each nucleus, uint8 of shape (n,): an index into `class_names`. None when untyped.
    class_names
        Names of the classes, empty when untyped.
    mpp
        µm/px of `labels`.
    digest
        The digest of the segmenter that found them.
    """

    labels: NDArray[np.int32]
    classes: NDArray[np.uint8] | None
    class_names: tuple[str, ...]
    mpp: float
    digest: str

    def __len__(self) -> int:
        return int(self.labels.max(initial=0))


Finder = Callable[[Sequence[Image]], list[NucleiMask]]
"""Finds the nuclei of uint8 windows (h, w, 3), which may differ in size; labels have the windows' size."""


class Segmenter(Protocol):
    """Finds nuclei: one method, which is told about the whole slide before it sees a window of it.

    Attributes
    ----------
    mpp
        µm/px that it wants; it is given no finer windows than that, coarser ones where the slide has no more.
    digest
        Sixteen hex digits that change with anything that changes its labels: settings, weights.
    """

    @property
    def mpp(self) -> float: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Take what is constant over a slide (stain, thresholds), and return what segments its windows.

        A network that needs nothing of the slide ignores the samples.

        Parameters
        ----------
        samples
            Windows drawn from the slide's tissue, or ready-made tiles, uint8 of shape (h, w, 3).
        mpp
            µm/px of the samples, and of the windows that follow.
        """
        ...
