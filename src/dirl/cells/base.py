"""The protocol of a segmenter, and the nuclei that it returns."""

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
        Instance labels, int32 of shape (h, w). 0 is background; the nuclei are 1..n without gaps.
    classes
        Class of each nucleus, uint8 of shape (n,): an index into `class_names`. None without classes.
    class_names
        Names of the classes; empty without classes.
    mpp
        µm/px of `labels`.
    digest
        Digest of the segmenter.
    """

    labels: NDArray[np.int32]
    classes: NDArray[np.uint8] | None
    class_names: tuple[str, ...]
    mpp: float
    digest: str

    def __len__(self) -> int:
        return int(self.labels.max(initial=0))


Finder = Callable[[Sequence[Image]], list[NucleiMask]]
"""Finds the nuclei of uint8 windows (h, w, 3), which may differ in size. Labels have the windows' sizes."""


class Segmenter(Protocol):
    """Finds nuclei in pixels. It is fitted to a slide before it sees the slide's windows.

    Attributes
    ----------
    mpp
        µm/px of the windows that it needs. On a slide of coarser resolution it gets the slide's pixels.
    digest
        Sixteen hex digits that change with everything that changes its labels: settings, weights.
    """

    @property
    def mpp(self) -> float: ...  # noqa: D102

    @property
    def digest(self) -> str: ...  # noqa: D102

    def fit(self, samples: Sequence[Image], mpp: float) -> Finder:
        """Measure what is constant over a slide (stain, thresholds), and return a function for its windows.

        A network that does not depend on the slide ignores the samples.

        Parameters
        ----------
        samples
            Windows drawn from the slide's tissue, or ready-made tiles, uint8 of shape (h, w, 3).
        mpp
            µm/px of the samples and of the windows that follow.
        """
        ...
