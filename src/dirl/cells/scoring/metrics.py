"""How well predicted nuclei agree with annotated ones in one image: Dice, F1, SQ, PQ, AJI, coverage."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from dirl.core.errors import ConfigError

Labels = NDArray[np.int32]
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
    both = (t > 0) & (p > 0)
    pairs, overlap = np.unique(t[both] * np.int64(n_pred + 1) + p[both], return_counts=True)
    i, j = np.divmod(pairs, n_pred + 1)
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


def typed_pq(
    predicted: Labels,
    truth: Labels,
    predicted_ids: Mapping[str, NDArray[np.integer]],
    truth_ids: Mapping[str, NDArray[np.integer]],
) -> dict[str, float]:
    """Panoptic quality of each class by itself: of a class's nuclei against those annotated as that class.

    Parameters
    ----------
    predicted, truth
        Instance labels (h, w).
    predicted_ids, truth_ids
        For each class the ids of its nuclei; ids that do not occur here do no harm.

    Returns
    -------
    dict
        For each class of the truth its PQ; nan where neither side has such a nucleus here, 0 where one has.

    Notes
    -----
    Their mean over images, then over classes, is an mPQ. Differs from PanNuke's [1]_, which leaves out every
    image whose truth lacks the class, and so does not count what was called so there.

    References
    ----------
    .. [1] Gamper et al., PanNuke Dataset Extension, Insights and Baselines, arXiv 2003.10778, and the
       authors' code, TissueImageAnalytics/PanNuke-metrics.
    """
    found = {}
    for name, ids in truth_ids.items():
        ours = np.where(np.isin(predicted, predicted_ids.get(name, ())), predicted, 0)
        theirs = np.where(np.isin(truth, ids), truth, 0)
        found[name] = score(ours, theirs).pq if ours.any() or theirs.any() else float("nan")
    return found


def coverage_correlation(
    predicted: Labels, truth: Labels, token_px: int, seen: NDArray[np.bool_] | None = None
) -> float:
    """Correlation over tokens of the share of each that nuclei cover; nan without variance.

    Parameters
    ----------
    predicted, truth
        Instance labels (h, w).
    token_px
        Side of a token; what does not fill a token at the right and the bottom is left out.
    seen
        Where both are known, bool (h, w); tokens that are not wholly so are left out. None is everywhere.
    """
    a, b = (_token_shares(labels > 0, token_px) for labels in (predicted, truth))
    if seen is not None:
        whole = _token_shares(seen, token_px) == 1
        a, b = a[whole], b[whole]
    if len(a) < 2 or a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _sequential(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels as 0..n, and the area of each, background first."""
    nuclei = labels != 0
    # Sorting is what scoring takes its time for, and most pixels are background.
    _, inverse, areas = np.unique(labels[nuclei], return_inverse=True, return_counts=True)
    numbers = np.zeros(labels.shape, np.int64)
    numbers[nuclei] = inverse + 1
    return numbers, np.concatenate([[labels.size - len(inverse)], areas]).astype(np.int64)


def _token_shares(mask: NDArray[np.bool_], token_px: int) -> NDArray[np.float64]:
    """Share of each token's pixels at which a mask (h, w) is true, shape (tokens,)."""
    h, w = (side // token_px for side in mask.shape)
    whole = mask[: h * token_px, : w * token_px]
    return np.asarray(whole.reshape(h, token_px, w, token_px).mean((1, 3)), np.float64).ravel()


def _size(labels: Labels) -> str:
    return f"{labels.shape[1]}×{labels.shape[0]} px"
