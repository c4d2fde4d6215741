"""Every score equals what comparing each pair of nuclei one by one gives."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from dirl.cells.scores import Scores, cells_score, coverage_correlation, read_labels, score, summary
from dirl.errors import ConfigError


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
    found, expected = score(predicted.astype(np.int32), truth), brute_force(predicted, truth)
    assert vars(found) == pytest.approx(vars(expected))


def test_equal_labels_score_one_whatever_their_numbers():
    truth = blobs(3)
    assert score(np.where(truth, truth * 7 + 5, 0), truth) == Scores(1, 1, 1, 1, 1)


def test_empty_images():
    empty, full = np.zeros((9, 9), np.int32), np.ones((9, 9), np.int32)
    assert score(empty, empty) == Scores(1, 1, 1, 1, 1)
    assert score(empty, full) == score(full, empty) == Scores(0, 0, 0, 0, 0)


def test_apart_nuclei_score_zero():
    a, b = np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32)
    a[:3], b[6:] = 1, 1
    assert score(a, b) == Scores(0, 0, 0, 0, 0)


def test_shapes_must_agree():
    with pytest.raises(ConfigError, match="9×9 px, the truth is 8×9"):
        score(np.zeros((9, 9), np.int32), np.zeros((9, 8), np.int32))


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


def test_files_are_matched_by_name(tmp_path):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    Image.fromarray(blobs(1).astype(np.uint16)).save(ours / "a.png")
    np.savez(ours / "b.npz", labels=blobs(2))
    Image.fromarray(blobs(1).astype(np.uint16)).save(theirs / "a.labels.png")
    Image.fromarray(np.zeros((80, 80, 3), np.uint8)).save(theirs / "a.png")
    Image.fromarray(blobs(3).astype(np.uint16)).save(theirs / "b.labels.tif")
    table = cells_score(ours, theirs, mpp=0.5)
    assert table.names == ("a", "b")
    assert table.scores[0] == Scores(1, 1, 1, 1, 1)
    assert table.scores[1] == score(blobs(2), blobs(3))
    assert table.mean.dice == pytest.approx((1 + table.scores[1].dice) / 2)
    assert summary(table)["per_image"]["a"]["coverage_correlation"] == pytest.approx(1)
    single = cells_score(ours / "b.npz", theirs / "b.labels.tif")
    assert single.scores == (table.scores[1],)
    assert single.correlations is None

    (theirs / "b.labels.tif").unlink()
    with pytest.raises(ConfigError, match="theirs: no labels for b"):
        cells_score(ours, theirs)


def test_what_is_no_label_image_is_named(tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "rgb.png")
    with pytest.raises(ConfigError, match=r"rgb.png.*one integer per pixel"):
        read_labels(tmp_path / "rgb.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ConfigError, match=r"text.png.*cannot read"):
        read_labels(tmp_path / "text.png")
    with pytest.raises(ConfigError, match="no such file or folder"):
        cells_score(tmp_path / "absent", tmp_path)
