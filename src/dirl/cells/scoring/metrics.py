"""Agreement of predicted and annotated nuclei in one image: Dice, F1, SQ, PQ, AJI, coverage."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dirl.cells.token_shares import token_shares
from dirl.core.errors import ConfigError

Labels = NDArray[np.int32]


@dataclass(frozen=True)
class Scores:
    """Agreement of two instance label images; each score lies in 0..1.

    If neither has nuclei the scores are 1; if one has none they are 0.

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
        Aggregated Jaccard index [2]_: every annotated nucleus is paired with the predicted nucleus of largest
        IoU. The other predicted nuclei add to the union.

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


def score_nuclei(predicted: Labels, truth: Labels) -> Scores:
    """Score the predicted nuclei of one image, given instance labels (h, w).

    Labels of two shapes are a `ConfigError`.
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
    both = (t > 0) & (p > 0)
    pairs, overlap = np.unique(t[both] * np.int64(n_pred + 1) + p[both], return_counts=True)
    i, j = np.divmod(pairs, n_pred + 1)
    union = t_area[i] + p_area[j] - overlap
    iou = overlap / union

    dice = 2.0 * overlap.sum() / (p_area[1:].sum() + t_area[1:].sum())
    # Above one half a nucleus has at most one partner, so the matches are one-to-one.
    matched = iou[iou > 0.5]
    f1 = 2.0 * len(matched) / (n_pred + n_truth)
    sq = float(matched.mean()) if len(matched) else 0.0

    # The last of equal keys wins below. Sorted by IoU, it is the best partner of each annotated nucleus.
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


def typed_pq(
    predicted: Labels,
    truth: Labels,
    predicted_ids: Mapping[str, NDArray[np.integer]],
    truth_ids: Mapping[str, NDArray[np.integer]],
) -> dict[str, float]:
    """Panoptic quality of each class of the truth: its predicted nuclei against its annotated nuclei.

    Labels have shape (h, w). Ids of a class that the image lacks are ignored. PQ is nan if neither side has a
    nucleus of the class here, and 0 if only one side has.

    The mean over images, then over classes, is an mPQ. It differs from PanNuke's [1]_, which leaves out
    images whose truth lacks the class, and so ignores false predictions of the class there.

    References
    ----------
    .. [1] Gamper et al., PanNuke Dataset Extension, Insights and Baselines, arXiv 2003.10778, and the
       authors' code, TissueImageAnalytics/PanNuke-metrics.
    """
    found = {}
    for name, ids in truth_ids.items():
        p = np.where(np.isin(predicted, predicted_ids.get(name, ())), predicted, 0)
        t = np.where(np.isin(truth, ids), truth, 0)
        found[name] = score_nuclei(p, t).pq if p.any() or t.any() else float("nan")
    return found


def coverage_correlation(
    predicted: Labels, truth: Labels, token_px: int, seen: NDArray[np.bool_] | None = None
) -> float:
    """Correlation of the coverage of tokens of side `token_px` by nuclei (h, w); nan without variance.

    Tokens that the mask `seen` (h, w) does not cover are left out.
    """
    a, b = (token_shares(labels > 0, token_px).ravel() for labels in (predicted, truth))
    if seen is not None:
        whole = token_shares(seen, token_px).ravel() == 1
        a, b = a[whole], b[whole]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _sequential(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Renumber labels to 0..n, and return the area of each, background first."""
    nuclei = labels != 0
    # Sorting takes most of the time, and most pixels are background.
    _, inverse, areas = np.unique(labels[nuclei], return_inverse=True, return_counts=True)
    numbers = np.zeros(labels.shape, np.int64)
    numbers[nuclei] = inverse + 1
    return numbers, np.concatenate([[labels.size - len(inverse)], areas]).astype(np.int64)


def _size(labels: Labels) -> str:
    return f"{labels.shape[1]}×{labels.shape[0]} px"
