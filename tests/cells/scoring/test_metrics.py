"""Every score equals what comparing each pair of nuclei one by one gives."""

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from dirl.cells.scoring.metrics import Scores, coverage_correlation, score_nuclei, typed_pq
from dirl.core.errors import ConfigError


def blobs(seed, size=80, threshold=0.25):
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 3)
    return ndimage.label(noise > threshold * noise.std())[0].astype(np.int32)


def brute_force(predicted, truth):
    """Scores by their definitions, over explicit masks of every pair."""
    p = [predicted == i for i in np.unique(predicted) if i]
    t = [truth == i for i in np.unique(truth) if i]
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in p] for a in t])
    matched = [iou[i, j] for i in range(len(t)) for j in range(len(p)) if iou[i, j] > 0.5]
    hits, missed, extra = len(matched), len(t) - len(matched), len(p) - len(matched)
    sq = np.mean(matched) if matched else 0.0
    f1 = hits / (hits + 0.5 * missed + 0.5 * extra)
    intersection = union = 0
    used = set()
    for i, a in enumerate(t):
        j = int(iou[i].argmax())
        if iou[i, j] == 0:
            union += a.sum()
            continue
        used.add(j)
        intersection += (a & p[j]).sum()
        union += (a | p[j]).sum()
    union += sum(p[j].sum() for j in range(len(p)) if j not in used)
    a, b = predicted > 0, truth > 0
    return Scores(2 * (a & b).sum() / (a.sum() + b.sum()), f1, sq, f1 * sq, intersection / union)


@pytest.mark.parametrize("seed", range(6))
def test_scores_equal_brute_force(seed):
    truth = blobs(seed)
    predicted = np.where(np.random.default_rng(seed).random(truth.max() + 1) < 0.8, 1, 0)[truth] * truth
    predicted = np.maximum(np.roll(predicted, 2, axis=1), blobs(seed + 100, threshold=1.5) * 1000)
    found, expected = score_nuclei(predicted.astype(np.int32), truth), brute_force(predicted, truth)
    assert vars(found) == pytest.approx(vars(expected))


def test_equal_labels_score_one_whatever_their_numbers():
    truth = blobs(3)
    assert score_nuclei(np.where(truth, truth * 7 + 5, 0), truth) == Scores(1, 1, 1, 1, 1)


def test_empty_images():
    empty, full = np.zeros((9, 9), np.int32), np.ones((9, 9), np.int32)
    assert score_nuclei(empty, empty) == Scores(1, 1, 1, 1, 1)
    assert score_nuclei(empty, full) == score_nuclei(full, empty) == Scores(0, 0, 0, 0, 0)


def test_apart_nuclei_score_zero():
    a, b = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    a[:3], b[6:] = 1, 1
    assert score_nuclei(a, b) == Scores(0, 0, 0, 0, 0)


def test_shapes_must_agree():
    with pytest.raises(ConfigError, match="9×9 px, the truth is 8×9"):
        score_nuclei(np.zeros((9, 9), np.int32), np.zeros((9, 8), np.int32))


def test_coverage_correlation():
    truth = blobs(1)
    assert coverage_correlation(truth, truth, 8) == pytest.approx(1)
    tokens = truth[:80, :80].reshape(10, 8, 10, 8)
    other = blobs(2)
    expected = np.corrcoef(
        [(tokens[i, :, j] > 0).mean() for i in range(10) for j in range(10)],
        [(other[i * 8 : i * 8 + 8, j * 8 : j * 8 + 8] > 0).mean() for i in range(10) for j in range(10)],
    )[0, 1]
    assert coverage_correlation(truth, other, 8) == pytest.approx(expected)
    assert np.isnan(coverage_correlation(np.zeros_like(truth), truth, 8))


def test_tokens_that_are_not_wholly_seen_do_not_count():
    truth, other = blobs(1), blobs(2)
    seen = np.ones(truth.shape, bool)
    seen[:, 40:] = False
    whole = coverage_correlation(truth[:, :40], other[:, :40], 8)
    assert coverage_correlation(truth, other, 8, seen) == pytest.approx(whole)
    seen[:, 40:43] = True
    assert coverage_correlation(truth, other, 8, seen) == pytest.approx(whole)


def test_typed_pq_is_pq_of_each_class_alone():
    truth, predicted = blobs(1), blobs(2)
    ids = {"a": np.array([1, 2, 3]), "b": np.arange(4, 99), "gone": np.array([500]), "new": np.array([501])}
    ours = {"a": np.array([1]), "b": np.arange(2, 99), "unknown": np.array([4]), "new": np.array([3])}
    found = typed_pq(predicted, truth, ours, ids)
    for name in "ab":
        alone = [np.where(np.isin(x, y[name]), x, 0) for x, y in ((predicted, ours), (truth, ids))]
        assert found[name] == score_nuclei(*alone).pq
    assert np.isnan(found["gone"]) and found["new"] == 0 and set(found) == set(ids)
    assert typed_pq(truth, truth, ids, ids)["a"] == 1


@st.composite
def label_images(draw):
    """Label images of a few rectangles, later ones over earlier ones."""
    labels = np.zeros((draw(st.integers(1, 14)), draw(st.integers(1, 14))), np.int32)
    for number in range(1, draw(st.integers(0, 6)) + 1):
        y, x, h, w = (draw(st.integers(low, 13)) for low in (0, 0, 1, 1))
        labels[y : y + h, x : x + w] = number
    return labels


@st.composite
def pairs(draw):
    first, second = draw(label_images()), draw(label_images())
    h, w = (min(a, b) for a, b in zip(first.shape, second.shape, strict=True))
    return first[:h, :w], second[:h, :w]


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_scores_of_any_pair(pair):
    predicted, truth = pair
    found, back = score_nuclei(predicted, truth), score_nuclei(truth, predicted)
    assert all(0 <= value <= 1 for value in astuple(found))
    assert found.pq == pytest.approx(found.f1 * found.sq)
    # All but AJI, which looks for partners of annotated nuclei, are the same both ways.
    assert astuple(found)[:4] == pytest.approx(astuple(back)[:4])
    if predicted.any() and truth.any():
        expected = brute_force(predicted, truth)
        assert astuple(found)[:4] == pytest.approx(astuple(expected)[:4])
    else:
        assert len(set(astuple(found))) == 1 and found.pq == float(predicted.any() == truth.any())


@settings(max_examples=60, deadline=None)
@given(pairs(), st.permutations(range(1, 7)), st.permutations(range(1, 7)))
def test_numbers_of_nuclei_mean_nothing(pair, ours, theirs):
    predicted, truth = pair
    renumbered = [np.array([0, *order])[x] * 3 for x, order in ((predicted, ours), (truth, theirs))]
    # Of equal IoU AJI takes one partner or another: which, the numbers decide.
    assert astuple(score_nuclei(*renumbered))[:4] == pytest.approx(
        astuple(score_nuclei(predicted, truth))[:4]
    )


@settings(max_examples=60, deadline=None)
@given(label_images())
def test_what_is_equal_scores_one(labels):
    assert score_nuclei(labels, labels) == Scores(1, 1, 1, 1, 1)
