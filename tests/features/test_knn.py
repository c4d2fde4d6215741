"""Nearest neighbours against scikit-learn and by hand."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier

from dirl.features import knn
from dirl.features.knn import knn_predict, knn_scores, neighbours


def weigh(distance):
    return np.exp((1 - distance) / 0.07)


@given(st.integers(0, 99), st.integers(1, 12), st.integers(2, 4))
def test_equals_scikit_learn(seed, k, classes):
    generator = np.random.default_rng(seed)
    train, test = generator.normal(size=(40, 5)), generator.normal(size=(17, 5))
    labels = np.r_[np.arange(classes), generator.integers(0, classes, 40 - classes)]
    reference = KNeighborsClassifier(k, weights=weigh, metric="cosine", algorithm="brute").fit(train, labels)
    ours = knn_scores(train, labels, test, k, classes)
    np.testing.assert_allclose(ours, reference.predict_proba(test), atol=1e-6)
    np.testing.assert_array_equal(knn_predict(train, labels, test, k), ours.argmax(1))


def test_by_hand():
    train, labels = np.array([[1.0, 0], [0, 2], [0, 3]]), np.array([0, 1, 1])
    test = np.array([[5.0, 0], [0, 0.1]])
    far, near = np.exp(-1 / 0.07), 1.0
    expected = [[near, 2 * far], [far, 2 * near]]
    expected = expected / np.sum(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(knn_scores(train, labels, test, 3, 2), expected)
    assert knn_predict(train, labels, test, 3).tolist() == [0, 1]


def test_similarities_descend_and_chunks_change_nothing(monkeypatch):
    generator = np.random.default_rng(0)
    train, test = (generator.normal(size=(n, 3)).astype(np.float32) for n in (30, 11))
    similarity, index = neighbours(train, test, 7)
    assert (np.diff(similarity, axis=1) <= 0).all() and similarity.dtype == np.float32
    monkeypatch.setattr(knn, "CHUNK", 4)
    chunked = neighbours(train, test, 7)
    np.testing.assert_allclose(chunked[0], similarity, atol=1e-6)
    np.testing.assert_array_equal(chunked[1], index)


def test_more_neighbours_than_there_are_and_features_of_zero():
    train, labels = np.array([[1.0, 0], [0, 0]]), np.array([1, 0])
    assert knn_predict(train, labels, np.array([[2.0, 0]]), 20).tolist() == [1]
    assert np.isfinite(knn_scores(train, labels, np.zeros((1, 2)), 20, 2)).all()


@pytest.mark.parametrize("module", ["torch", "sklearn", "lightning"])
def test_light_to_import(module):
    code = f"import sys, dirl.features.knn; assert {module!r} not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
