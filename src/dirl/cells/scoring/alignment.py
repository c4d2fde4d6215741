"""Two label images of the same field on one grid, by nearest neighbour."""

from dataclasses import replace

import numpy as np

from dirl.cells.scoring.sources import LabelImage
from dirl.core.errors import ConfigError
from dirl.slides.base import SAME_MPP


def on_one_grid(
    predicted: LabelImage, truth: LabelImage, mpp: float | None = None
) -> tuple[LabelImage, LabelImage]:
    """Resample two label images to the truth's grid, or to a coarser grid of a stated resolution.

    Both show the same field. So if one resolution is stated, the sizes give the other. Pixels that are not
    seen in one image are empty in both. `mpp` is the µm/px to score at, by default the truth's; if neither
    image has a resolution, it is the truth's.

    Raises
    ------
    ConfigError
        If the sizes do not fit one field, or `mpp` is finer than the truth.
    """
    result_mpp = _truth_mpp(predicted, truth) or mpp
    height, width = truth.labels.shape
    if mpp is not None and result_mpp is not None and abs(mpp / result_mpp - 1) > SAME_MPP:
        if mpp < result_mpp:
            reason = f"the truth has {result_mpp:.3g} µm/px, and labels are not enlarged to {mpp:g}"
            raise ConfigError(reason, where="--mpp", remedy=f"state {result_mpp:.3g} or more, or omit it")
        height, width = (max(1, round(side * result_mpp / mpp)) for side in (height, width))
        result_mpp = mpp
    first, second = (_resample(image, (height, width)) for image in (predicted, truth))
    masks = [image.seen for image in (first, second) if image.seen is not None]
    seen = np.logical_and.reduce(masks) if masks else None

    def cut(image: LabelImage) -> LabelImage:
        labels = image.labels if seen is None else image.labels * seen
        return replace(image, labels=labels, mpp=result_mpp, seen=seen)

    return cut(first), cut(second)


def _truth_mpp(predicted: LabelImage, truth: LabelImage) -> float | None:
    """Resolution of the truth: its own, or from the resolution of the predicted labels and the sizes."""
    (h, w), (height, width) = predicted.labels.shape, truth.labels.shape
    factor = width / w if w and h else 0.0
    # Rounding may lose one pixel of the coarser image.
    same_field = factor > 0 and abs(height - h * factor) <= max(1.0, factor)
    if predicted.mpp is not None and truth.mpp is not None:
        grace = SAME_MPP * width * truth.mpp + max(predicted.mpp, truth.mpp)
        same_field &= abs(w * predicted.mpp - width * truth.mpp) <= grace
    elif factor != 1:
        # A slightly different size is a crop or a shift, not a resolution.
        same_field &= abs(factor - 1) > SAME_MPP
    if not same_field:
        raise ConfigError(
            f"predicted labels are {_size(predicted)}, the truth is {_size(truth)}: not the same field",
            remedy="give labels of the whole image on both sides; the resolution may differ",
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
