"""Two label images of the same field on one grid: nearest neighbour, and only where the mpp explains it."""

from dataclasses import replace

import numpy as np

from dirl.cells.scoring.sources import LabelImage
from dirl.core.errors import ConfigError
from dirl.slides.base import SAME_MPP


def on_one_grid(
    predicted: LabelImage, truth: LabelImage, mpp: float | None = None
) -> tuple[LabelImage, LabelImage]:
    """Bring two label images to the truth's grid, or to a coarser one of a stated resolution.

    They show the same field, so where one resolution is known the other follows from the sizes. What is not
    seen of one is empty in both.

    Parameters
    ----------
    predicted, truth
        Of the same field.
    mpp
        µm/px to score at; where neither resolution is known, that of the truth. None is the truth's own.

    Returns
    -------
    predicted, truth : LabelImage
        Of the same shape, mpp and `seen`.

    Raises
    ------
    ConfigError
        If the sizes are not those of one field, or `mpp` is finer than the truth.
    """
    own = _truth_mpp(predicted, truth) or mpp
    height, width = truth.labels.shape
    if mpp is not None and own is not None and abs(mpp / own - 1) > SAME_MPP:
        if mpp < own:
            reason = f"the truth is of {own:.3g} µm/px, and labels are not enlarged to {mpp:g}"
            raise ConfigError(reason, where="--mpp", remedy=f"state {own:.3g} or more, or leave it out")
        height, width = (max(1, round(side * own / mpp)) for side in (height, width))
        own = mpp
    first, second = (_resample(image, (height, width)) for image in (predicted, truth))
    masks = [image.seen for image in (first, second) if image.seen is not None]
    seen = np.logical_and.reduce(masks) if masks else None

    def cut(image: LabelImage) -> LabelImage:
        labels = image.labels if seen is None else image.labels * seen
        return replace(image, labels=labels, mpp=own, seen=seen)

    return cut(first), cut(second)


def _truth_mpp(predicted: LabelImage, truth: LabelImage) -> float | None:
    """Resolution of the truth, as known or as it follows from that of the predicted labels."""
    (h, w), (height, width) = predicted.labels.shape, truth.labels.shape
    factor = width / w if w and h else 0.0
    # One pixel of the coarser image may be lost to rounding.
    alike = factor > 0 and abs(height - h * factor) <= max(1.0, factor)
    if predicted.mpp is not None and truth.mpp is not None:
        grace = SAME_MPP * width * truth.mpp + max(predicted.mpp, truth.mpp)
        alike &= abs(w * predicted.mpp - width * truth.mpp) <= grace
    elif factor != 1:
        # A size that is off by a little is a crop or a shift, and no resolution.
        alike &= abs(factor - 1) > SAME_MPP
    if not alike:
        raise ConfigError(
            f"predicted labels are {_size(predicted)}, the truth is {_size(truth)}: not the same field",
            remedy="give labels of the whole image on both sides: of another resolution, but no crop",
        )
    if truth.mpp is not None:
        return truth.mpp
    return None if predicted.mpp is None else predicted.mpp / factor


def _resample(image: LabelImage, shape: tuple[int, int]) -> LabelImage:
    if image.labels.shape == shape:
        return image
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.int64)
        for new, old in zip(shape, image.labels.shape, strict=True)
    )

    seen = None if image.seen is None else image.seen[rows[:, None], columns]
    return replace(image, labels=image.labels[rows[:, None], columns], seen=seen)


def _size(image: LabelImage) -> str:
    at = "" if image.mpp is None else f" at {image.mpp:.3g} µm/px"
    return f"{image.labels.shape[1]}×{image.labels.shape[0]} px{at}"
