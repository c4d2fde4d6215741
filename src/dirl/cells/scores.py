"""How well predicted nuclei agree with annotated ones: F1, SQ, PQ, AJI, Dice, and coverage per token."""

from dataclasses import asdict, dataclass, fields
from math import isnan, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dirl.card import claim, digest, finish, new_card
from dirl.errors import ConfigError
from dirl.files import write_json

Labels = NDArray[np.int32]
SUFFIXES = (".png", ".tif", ".tiff", ".npz")
TOKEN_UM = 8.0


@dataclass(frozen=True)
class Scores:
    """Agreement of two instance label images, each 0..1.

    An image without nuclei in both scores 1; without nuclei in one of them, 0.

    Attributes
    ----------
    dice
        Dice coefficient of the binary masks.
    f1
        F1 of the one-to-one matches at IoU > 0.5.
    sq
        Segmentation quality, the mean IoU of the matches.
    pq
        Panoptic quality, ``f1 * sq`` [1]_.
    aji
        Aggregated Jaccard index [2]_: every annotated nucleus is paired with the predicted one of largest
        IoU, predicted nuclei paired with none count as union.

    References
    ----------
    .. [1] Kirillov et al., Panoptic Segmentation, CVPR 2019.
    .. [2] Kumar et al., A Dataset and a Technique for Generalized Nuclear Segmentation for Computational
       Pathology, IEEE TMI 2017.
    """

    dice: float
    f1: float
    sq: float
    pq: float
    aji: float


SCORES = tuple(f.name for f in fields(Scores))


@dataclass(frozen=True)
class ScoreTable:
    """Scores of several images.

    Attributes
    ----------
    names
        The images.
    scores
        One for each image.
    correlations
        Correlation of token coverage for each image (nan where it has no variance), or None when the mpp
        was not stated.
    mpp
        µm/px at which the labels were scored, None when not stated.
    """

    names: tuple[str, ...]
    scores: tuple[Scores, ...]
    correlations: tuple[float, ...] | None
    mpp: float | None

    @property
    def mean(self) -> Scores:
        """Mean over the images."""
        return Scores(*(float(np.mean([getattr(s, name) for s in self.scores])) for name in SCORES))

    @property
    def mean_correlation(self) -> float:
        """Mean correlation over the images in which there is one, else nan."""
        known = [c for c in self.correlations or () if not np.isnan(c)]
        return float(np.mean(known)) if known else float("nan")


def score(predicted: Labels, truth: Labels) -> Scores:
    """Score the predicted nuclei of one image.

    Parameters
    ----------
    predicted, truth
        Instance labels, integers of shape (h, w); 0 is no nucleus.

    Raises
    ------
    ConfigError
        If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ConfigError(
            f"predicted labels are {_size(predicted)}, the truth is {_size(truth)}",
            remedy="score both at the same mpp",
        )
    p, p_area = _sequential(predicted)
    t, t_area = _sequential(truth)
    n_pred, n_truth = len(p_area) - 1, len(t_area) - 1
    if n_pred == 0 or n_truth == 0:
        value = float(n_pred == n_truth)
        return Scores(value, value, value, value, value)
    pairs, overlap = np.unique(t * np.int64(n_pred + 1) + p, return_counts=True)
    i, j = np.divmod(pairs, n_pred + 1)
    both = (i > 0) & (j > 0)
    i, j, overlap = i[both], j[both], overlap[both]
    union = t_area[i] + p_area[j] - overlap
    iou = overlap / union

    dice = 2.0 * overlap.sum() / (p_area[1:].sum() + t_area[1:].sum())
    # Above one half a nucleus has at most one partner, so the matches are one-to-one by themselves.
    matched = iou[iou > 0.5]
    f1 = 2.0 * len(matched) / (n_pred + n_truth)
    sq = float(matched.mean()) if len(matched) else 0.0

    # The last of equal keys wins below: sorted by IoU, it is the best partner of each annotated nucleus.
    order = np.argsort(iou, kind="stable")
    best = np.full(n_truth + 1, -1)
    best[i[order]] = order
    found = best[1:][best[1:] >= 0]
    unmatched_truth = t_area[1:][best[1:] < 0].sum()
    used = np.zeros(n_pred + 1, bool)
    used[j[found]] = True
    unused_pred = p_area[1:][~used[1:]].sum()
    aji = overlap[found].sum() / (union[found].sum() + unmatched_truth + unused_pred)
    return Scores(float(dice), f1, sq, f1 * sq, float(aji))


def coverage_correlation(predicted: Labels, truth: Labels, token_px: int) -> float:
    """Correlation over tokens of the share of each that nuclei cover; nan without variance.

    Parameters
    ----------
    predicted, truth
        Instance labels (h, w).
    token_px
        Side of a token; what does not fill a token at the right and the bottom is left out.
    """
    a, b = (_coverage(labels, token_px).ravel() for labels in (predicted, truth))
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def cells_score(predicted: Path, truth: Path, mpp: float | None = None) -> ScoreTable:
    """Score label files against the truth (`dirl cells-score`), matched by file name.

    Parameters
    ----------
    predicted, truth
        Two files, or two folders of them: instance labels as 16-bit PNG or TIFF, or the one array of an NPZ.
    mpp
        µm/px of the labels; with it the correlation of coverage over tokens of 8 µm is reported too.

    Raises
    ------
    ConfigError
        If a file is missing on either side or cannot be read as labels, or if two shapes differ.
    """
    found, wanted = _label_files(predicted), _label_files(truth)
    if predicted.is_file() and truth.is_file():
        found = dict(zip(wanted, found.values(), strict=True))
    for side, other, where in ((found, wanted, truth), (wanted, found, predicted)):
        if missing := sorted(side.keys() - other.keys()):
            some = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise ConfigError(
                f"no labels for {some}", where=where, remedy="give both folders the same file names"
            )
    scores, correlations = [], []
    for name, file in wanted.items():
        ours, theirs = read_labels(found[name]), read_labels(file)
        try:
            scores.append(score(ours, theirs))
        except ConfigError as error:
            raise ConfigError(error.reason, where=found[name], remedy=error.remedy) from None
        if mpp is not None:
            correlations.append(coverage_correlation(ours, theirs, max(1, round(TOKEN_UM / mpp))))
    return ScoreTable(tuple(wanted), tuple(scores), None if mpp is None else tuple(correlations), mpp)


def read_labels(file: Path) -> Labels:
    """Read instance labels (h, w) from a PNG, a TIFF or an NPZ that holds one array.

    Raises
    ------
    ConfigError
        If the file cannot be read, or does not hold one integer per pixel.
    """
    try:
        if file.suffix.lower() == ".npz":
            with np.load(file) as arrays:
                (name,) = arrays.files
                labels = arrays[name]
        else:
            with Image.open(file) as image:
                labels = np.asarray(image)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read labels ({error})", where=file) from None
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise ConfigError(
            f"labels are one integer per pixel, this holds {labels.dtype} of shape {labels.shape}",
            where=file,
            remedy="save instance ids as 16-bit PNG, TIFF or NPZ",
        )
    return np.asarray(labels, np.int32)


def summary(table: ScoreTable) -> dict[str, Any]:
    """Return a table as JSON: the mean, and a row per image; a correlation that is not defined is None."""
    known = table.correlations or (nan,) * len(table.names)
    rows = zip(table.names, table.scores, known, strict=True)
    return {
        "mpp": table.mpp,
        "images": len(table.names),
        "mean": _row(table.mean, table.mean_correlation),
        "per_image": {name: _row(scores, correlation) for name, scores, correlation in rows},
    }


def write_scores(
    out: Path, table: ScoreTable, predicted: Path, truth: Path, *, overwrite: bool = False
) -> None:
    """Write ``card.json`` and ``summary.json`` into a directory.

    Raises
    ------
    StoreError
        If the directory holds something else.
    """
    inputs = {
        side: digest({name: digest(file) for name, file in _label_files(place).items()})
        for side, place in (("predicted", predicted), ("truth", truth))
    }
    card = claim(out, new_card("cells-score", {"mpp": table.mpp}, inputs), overwrite=overwrite)
    write_json(out / "summary.json", summary(table))
    finish(out, card, {"images": len(table.names)})


def _row(scores: Scores, correlation: float) -> dict[str, float | None]:
    return {**asdict(scores), "coverage_correlation": None if isnan(correlation) else correlation}


def _label_files(place: Path) -> dict[str, Path]:
    if place.is_file():
        return {_name(place): place}
    if not place.is_dir():
        raise ConfigError("no such file or folder", where=place)
    files = sorted(f for f in place.iterdir() if f.suffix.lower() in SUFFIXES)
    # Images may lie beside their labels: where there are `.labels` files, only those are labels.
    named = [f for f in files if f.stem.endswith(".labels")]
    chosen = {}
    for file in named or files:
        if _name(file) in chosen:
            raise ConfigError(f"two label files for {_name(file)}", where=place, remedy="keep one of them")
        chosen[_name(file)] = file
    if not chosen:
        raise ConfigError(f"holds no label files ({', '.join(SUFFIXES)})", where=place)
    return chosen


def _name(file: Path) -> str:
    return file.stem.removesuffix(".labels")


def _sequential(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels as 0..n, and the area of each, background first."""
    values, inverse, areas = np.unique(labels, return_inverse=True, return_counts=True)
    if len(values) and values[0] == 0:
        return inverse.reshape(labels.shape).astype(np.int64), areas.astype(np.int64)
    return inverse.reshape(labels.shape).astype(np.int64) + 1, np.concatenate([[0], areas]).astype(np.int64)


def _coverage(labels: Labels, token_px: int) -> NDArray[np.float64]:
    h, w = (side // token_px for side in labels.shape)
    mask = labels[: h * token_px, : w * token_px] > 0
    return np.asarray(mask.reshape(h, token_px, w, token_px).mean((1, 3)), np.float64)


def _size(labels: Labels) -> str:
    return f"{labels.shape[1]}×{labels.shape[0]} px"
