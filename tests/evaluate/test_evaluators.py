"""Evaluators of the user's own in `dirl probe`: scored like the linear probe, refused if they are wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier

from dirl.config import ProbeConfig
from dirl.core.errors import ConfigError, EncoderError
from dirl.encoders import known as listed
from dirl.evaluate.probe.evaluators import load_evaluators
from dirl.evaluate.probe.run import probe
from dirl.evaluate.probe.show import print_probe
from tests.known import known

CLASSES = np.repeat(["a", "b", "c"], 20)
PATIENTS = np.array([f"p{i % 10}" for i in range(60)])


def forest(train, labels, test, classes):
    found = RandomForestClassifier(20, random_state=0).fit(train, labels)
    scores = np.zeros((len(test), classes))
    scores[:, found.classes_] = found.predict_proba(test)
    return scores


def narrow(train, labels, test, classes):
    return np.zeros((len(test), classes - 1))


def endless(train, labels, test, classes):
    return np.full((len(test), classes), np.nan)


number = 3


@pytest.fixture
def features(make_features: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([1.0]))
    generator = np.random.default_rng(0)
    values = np.repeat(np.eye(3, 8), 20, axis=0) + 0.1 * generator.normal(size=(60, 8))
    return make_features(values, generator.random((60, 6)), CLASSES, patients=PATIENTS)


def of(name):
    return ProbeConfig(bootstrap=50, evaluators=(f"{__name__}:{name}",))


def test_it_is_scored_on_features_and_on_baselines(features, tmp_path, capsys):
    result = probe(features, "label", tmp_path / "out", of("forest"), quiet=True)
    name = f"{__name__}.forest"
    scores = {one: each.classifiers[name] for one, each in result.summary.results.items()}
    assert known(scores["features"].balanced_accuracy.value) > 0.95
    assert known(scores["colour_histogram"].balanced_accuracy.value) < 0.7
    print_probe(result)
    assert name in capsys.readouterr().out


def test_without_one_the_settings_are_those_of_earlier_versions(features, tmp_path):
    from dirl.core.card import read_card

    probe(features, "label", tmp_path / "out", ProbeConfig(bootstrap=50), quiet=True)
    assert "evaluators" not in read_card(tmp_path / "out").config


@pytest.mark.parametrize(("name", "reason"), [("narrow", "shape"), ("endless", "not finite")])
def test_wrong_scores_are_refused(features, tmp_path, name, reason):
    with pytest.raises(ConfigError, match=reason):
        probe(features, "label", tmp_path / "out", of(name), quiet=True)


@pytest.mark.parametrize(
    ("specs", "reason"),
    [
        (["linear"], "itself uses this name"),
        (["knn20"], "itself uses this name"),
        ([f"{__name__}:forest"] * 2, "named twice"),
        ([f"{__name__}:number"], "cannot be called"),
        (["forrest"], "no such evaluator"),
    ],
)
def test_what_is_no_evaluator_is_refused(specs, reason):
    with pytest.raises(ConfigError, match=reason):
        load_evaluators(specs)


@pytest.mark.parametrize(
    ("name", "declared", "reason"),
    [
        ("uni", listed.find_known("uni"), "an encoder of this name"),
        ("mine", 3, "not an encoder of this name"),
    ],
)
def test_an_encoder_of_a_plugin_has_a_name_of_its_own(monkeypatch, name, declared, reason):
    monkeypatch.setattr(listed, "names", lambda group: [name])
    monkeypatch.setattr(listed, "resolve", lambda group, spec: declared)
    listed.known_encoders.cache_clear()
    with pytest.raises(EncoderError, match=reason):
        listed.known_encoders()
