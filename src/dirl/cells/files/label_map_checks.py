"""A check of a label image: it must hold instances, one id for each nucleus, and 0 between them."""

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
# A map of classes, or of ids that overflowed 8 bits, has few ids. Parts are counted only in such maps.
FEW_IDS = 1000
# An id is scattered if the centres of its parts have this distance from their mean, in radii of a part. In
# 445 annotated maps at most 2 % of the labelled area belongs to scattered ids; in class maps nearly all.
APART = 1.5
APART_AREA = 0.2
# The border of a tile can cut a nucleus into two or three parts. So few parts count only if two of them have
# this distance, in radii of the larger part, and one does not touch the border. In the same maps such ids
# have at most 2 % of the area.
FEW_PARTS = 5
FAR, AS_LARGE = 3.0, 0.25
# Among many ids, each has a small share of the image, and no nucleus extends over this many of its radii.
SPREAD = 3.0
# A background covers this share of an image, or this many times the median area of all ids.
BACKGROUND_AREA = 0.5
BACKGROUND_TIMES = 5


def check_instances(labels: NDArray[Any], file: Path) -> NDArray[np.int32]:
    """Return an instance map (h, w) as int32, given the array of a file, of any shape and type.

    Raises
    ------
    ConfigError
        If there is not one integer from 0 to 2³¹ - 1 per pixel. Also if an id is the background, or if ids
        have scattered parts, as classes have.
    """
    whole = check_numbers(labels, file, "instance ids", SAVE_IDS)
    ids, areas = np.unique(whole, return_counts=True)
    ids, areas = ids[ids > 0], areas[ids > 0]
    _check_background(whole, ids, areas, file)
    if len(ids) == 1 and ndimage.label(whole, np.ones((3, 3)))[1] > 2:
        raise ConfigError(
            "one id for many separate areas: a mask, not instance ids",
            where=file,
            remedy="number its parts, for example with skimage.measure.label",
        )
    if 0 < len(ids) <= FEW_IDS:
        _check_parts(whole, ids, file)
    elif len(ids):
        _check_spread(whole, ids, areas, file)
    return whole


def check_numbers(labels: NDArray[Any], file: Path, what: str, remedy: str) -> NDArray[np.int32]:
    """Return numbers (h, w) as int32, given the array of a file; `what` names them in errors.

    Raises
    ------
    ConfigError
        If there is not one integer from 0 to 2³¹ - 1 per pixel.
    """
    if labels.ndim == 3 and labels.shape[-1] in (3, 4):
        raise ConfigError(f"a colour picture, not {what}", where=file, remedy=remedy)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        found = f"{labels.dtype} of shape {labels.shape}"
        if labels.ndim == 3 and labels.shape[0] <= 2:
            remedy += "; of several planes one, for example labels[0]"
        raise ConfigError(f"{what} are one integer per pixel, not {found}", where=file, remedy=remedy)
    if labels.size and (labels.min() < 0 or labels.max() > LARGEST_ID):
        raise ConfigError(
            f"ids reach from {labels.min()} to {labels.max()}; they must lie in 0..{LARGEST_ID}",
            where=file,
            remedy="number them anew, for example with skimage.segmentation.relabel_sequential",
        )
    return labels.astype(np.int32, copy=False)


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
    """Raise an error if ids have scattered parts: classes, or ids that overflowed."""
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
    """Return a mask of ids with a part far from their largest part, which no border can have cut off."""
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
    """Raise an error if many ids extend far over the image: ids of several images that were joined."""
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
        f"{apart} of {count} ids have{parts} far from each other: classes, or ids that were used twice, not "
        "instance ids",
        where=file,
        remedy="number every nucleus, for example with skimage.measure.label(labels); the classes go "
        f"into {classes_file(file).name}, as in " + '{"1": "tumour", "2": "stroma"}',
    )
