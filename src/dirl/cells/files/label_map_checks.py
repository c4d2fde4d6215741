"""Whether a label image holds instances: one number for each nucleus, and 0 between them."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

from dirl.cells.files.matching import classes_file
from dirl.core.errors import ConfigError

SAVE_IDS = "save one id per nucleus, 0 between them, as 16-bit PNG, TIFF or NPZ"
LARGEST_ID = np.iinfo(np.int32).max
# A map of classes, or of ids that ran over in 8 bits, has few numbers; parts are counted in no other.
FEW_IDS = 1000
# Parts lie apart whose middles are this many radii of a part from the middle of all. In 432 + 13 maps that
# people drew, at most 2 % of the labelled area belongs to ids whose parts do; in class maps nearly all.
APART = 1.5
APART_AREA = 0.2
# A nucleus at the border of a tile can be cut into two or three parts: so few say nothing, unless two of
# them lie this many radii of the larger from each other, and one does not touch the border. Such ids have at
# most 2 % of the area in those maps.
FEW_PARTS = 5
FAR, AS_LARGE = 3.0, 0.25
# Where ids are many, each has a small share of the image: no nucleus spreads over so many of its radii.
SPREAD = 3.0
# A background covers most of an image, or this many times the median of the other ids.
BACKGROUND_AREA = 0.5
BACKGROUND_TIMES = 5


def check_instances(labels: NDArray[Any], file: Path) -> NDArray[np.int32]:
    """Refuse an image that is no instance map.

    Parameters
    ----------
    labels
        As the file has them, of any shape and type.
    file
        For the message.

    Returns
    -------
    ndarray of shape (h, w), int32

    Raises
    ------
    ConfigError
        If there is not one integer from 0 to 2³¹ - 1 per pixel, if one id is the background, or if ids have
        parts far from each other, as classes have.
    """
    if labels.ndim == 3 and labels.shape[-1] in (3, 4):
        raise ConfigError("a colour picture, not instance ids", where=file, remedy=SAVE_IDS)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        what = f"{labels.dtype} of shape {labels.shape}"
        remedy = SAVE_IDS
        if labels.ndim == 3 and labels.shape[0] <= 2:
            remedy += "; of several planes one, for example labels[0]"
        raise ConfigError(f"instance ids are one integer per pixel, not {what}", where=file, remedy=remedy)
    if labels.size and (labels.min() < 0 or labels.max() > LARGEST_ID):
        raise ConfigError(
            f"ids reach from {labels.min()} to {labels.max()}; they must lie in 0..{LARGEST_ID}",
            where=file,
            remedy="number the nuclei anew, for example with skimage.segmentation.relabel_sequential",
        )
    whole = labels.astype(np.int32, copy=False)
    ids, areas = np.unique(whole, return_counts=True)
    ids, areas = ids[ids > 0], areas[ids > 0]
    _check_background(whole, ids, areas, file)
    if len(ids) == 1 and ndimage.label(whole, np.ones((3, 3)))[1] > 2:
        raise ConfigError(
            "many separate areas under one id: a mask, not instance ids",
            where=file,
            remedy="number its parts, for example with skimage.measure.label",
        )
    if 0 < len(ids) <= FEW_IDS:
        _check_parts(whole, ids, file)
    elif len(ids):
        _check_spread(whole, ids, areas, file)
    return whole


def _check_background(
    labels: NDArray[np.int32], ids: NDArray[np.int32], areas: NDArray[np.int64], file: Path
) -> None:
    large = areas > BACKGROUND_AREA * labels.size
    if len(ids) > FEW_PARTS:
        large |= areas > BACKGROUND_TIMES * np.median(areas)
    for number in ids[large].tolist():
        if all((edge == number).any() for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1])):
            share = areas[ids == number].item() / labels.size
            raise ConfigError(
                f"id {number} covers {share:.0%} of the picture and touches all four borders: a background, "
                "not a nucleus",
                where=file,
                remedy=f"set it to 0, for example with labels[labels == {number}] = 0",
            )


def _check_parts(labels: NDArray[np.int32], ids: NDArray[np.int32], file: Path) -> None:
    """Refuse ids with many parts far from each other: classes, or numbers that ran over."""
    parts, count = label(labels, return_num=True, connectivity=2)  # type: ignore[no-untyped-call]
    if count == len(ids):
        return
    at = np.flatnonzero(parts)
    part = parts.ravel()[at] - 1
    owner = np.zeros(count, np.int64)
    owner[part] = np.searchsorted(ids, labels.ravel()[at])
    area = np.bincount(part, minlength=count)
    middle = np.stack([np.bincount(part, side, count) / area for side in np.divmod(at, labels.shape[1])], 1)
    total = np.bincount(owner, area)
    mean = np.stack([np.bincount(owner, area * side) / total for side in middle.T], 1)
    variance = np.bincount(owner, area * ((middle - mean[owner]) ** 2).sum(1)) / total
    radius = np.sqrt(np.bincount(owner, area.astype(np.float64) ** 2) / total / np.pi)
    apart = np.sqrt(variance) > APART * radius
    if np.bincount(owner)[apart].sum() <= FEW_PARTS:
        edges = np.concatenate([parts[[0, -1]].ravel(), parts[:, [0, -1]].ravel()])
        apart = _far(owner, area, middle, np.isin(np.arange(1, count + 1), edges))
    if total[apart].sum() > APART_AREA * total.sum():
        _refuse_classes(int(apart.sum()), len(ids), file, f" {int(np.bincount(owner)[apart].sum())} parts")


def _far(
    owner: NDArray[np.int64],
    area: NDArray[np.int64],
    middle: NDArray[np.float64],
    cut: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Which ids have a part far from their largest, that no border can have cut from it."""
    largest = np.zeros(owner.max() + 1, np.int64)
    by_area = np.argsort(area, kind="stable")
    largest[owner[by_area]] = by_area
    first = largest[owner]
    away = np.hypot(*(middle - middle[first]).T) > FAR * np.sqrt(area[first] / np.pi)
    far = away & (area >= AS_LARGE * area[first]) & ~(cut & cut[first])
    return np.bincount(owner, far) > 0


def _check_spread(
    labels: NDArray[np.int32], ids: NDArray[np.int32], areas: NDArray[np.int64], file: Path
) -> None:
    """Refuse many ids that spread far over the image: numbers of several images that were put together."""
    at = np.flatnonzero(labels)
    owner = np.searchsorted(ids, labels.ravel()[at])
    variance = np.zeros(len(ids))
    for side in np.divmod(at, labels.shape[1]):
        mean = np.bincount(owner, side) / areas
        variance += np.bincount(owner, (side - mean[owner]) ** 2) / areas
    apart = np.sqrt(variance) > SPREAD * np.sqrt(areas / np.pi)
    if areas[apart].sum() > APART_AREA * areas.sum():
        _refuse_classes(int(apart.sum()), len(ids), file, " parts")


def _refuse_classes(apart: int, count: int, file: Path, parts: str) -> None:
    raise ConfigError(
        f"{apart} of {count} ids have{parts} that lie apart: classes, or numbers that were used twice, not "
        "instance ids",
        where=file,
        remedy="number every nucleus, for example with skimage.measure.label(labels); the classes go "
        f"into {classes_file(file).name}, as in " + '{"1": "tumour", "2": "stroma"}',
    )
