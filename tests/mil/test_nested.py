"""Nothing leaks: groups, the choice within folds, scaling, weights."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

import dirl.evaluate.mil.nested
from dirl.config import MilConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.records import Chosen
from dirl.evaluate.common.splits import Sources
from dirl.evaluate.mil.bags import read_bags
from dirl.evaluate.mil.labels import SlideLabels, read_slide_labels
from dirl.evaluate.mil.nested import choose_inside, cross_validate, make_folds
from dirl.evaluate.mil.train import SlideTask, train_slides


@pytest.fixture
def task(cohort):
    features, labels = cohort()
    bags = read_bags(features, quiet=True)
    given = read_slide_labels(labels, bags, MilConfig())
    return SlideTask.of(bags, given, "features", torch.device("cpu"))


def folds_of(task, config):
    return make_folds(task.labels, task.bags.slide_ids[task.labels.bags], config)


def test_no_patient_stands_on_both_sides_outside_or_inside(task, quick):
    folds = folds_of(task, quick)
    patients = task.labels.patients
    for fold in range(3):
        held = folds.outer.folds == fold
        assert held.any() and not set(patients[held]) & set(patients[~held])
        inner = folds.inner[fold]
        assert ((inner == -1) == held).all()
        for part in range(2):
            validation, kept = patients[inner == part], patients[(inner >= 0) & (inner != part)]
            assert len(validation) and not set(validation) & set(kept)
            # Stratified: both classes are set validation.
            assert len(set(task.labels.classes[inner == part])) == 2


def test_scaling_is_that_of_the_training_part(task):
    slides = np.array([0, 3, 7])
    tiles = np.concatenate([task.bags.values(i) for i in slides])
    scaler = StandardScaler().fit(tiles.astype(np.float64))
    found = task.moments.scaling(slides)
    assert np.allclose(found.mean, scaler.mean_) and np.allclose(found.deviation, scaler.scale_)
    scaled = torch.cat([task.tiles(i, found) for i in slides.tolist()])
    assert torch.allclose(scaled.mean(dim=0), torch.zeros(5), atol=1e-5)


def test_a_constant_feature_is_only_shifted(write_bag, tmp_path):
    for i in range(4):
        write_bag(f"s{i}", np.full((3, 2), 0.1))
    (tmp_path / "l.csv").write_text("slide_id,label\n" + "\n".join(f"s{i},{i % 2}" for i in range(4)))
    bags = read_bags(tmp_path / "bags", quiet=True)
    labels = read_slide_labels(tmp_path / "l.csv", bags, MilConfig())
    scaling = SlideTask.of(bags, labels, "features", torch.device("cpu")).moments.scaling(np.arange(4))
    assert (scaling.deviation == 1).all()


def test_classes_count_the_same(task):
    slides = np.flatnonzero(task.labels.classes == 0)[:2].tolist()
    slides += np.flatnonzero(task.labels.classes == 1)[:6].tolist()
    weights = task.weights(np.array(slides))
    assert weights.tolist() == pytest.approx([2, 2 / 3])


def test_neither_the_choice_nor_the_model_sees_the_outer_fold(task, quick, monkeypatch):
    """Every slide that is read on the way to an outer fold's model stands outside that fold."""
    folds = folds_of(task, quick)
    held = folds.outer.folds == 1
    read = []
    original = SlideTask.tiles

    def read_tiles(self, slide, *rest):
        read.append(slide)
        return original(self, slide, *rest)

    monkeypatch.setattr(SlideTask, "tiles", read_tiles)
    fitted = []
    scaling = type(task.moments).scaling

    def fit_scaling(self, slides):
        fitted.extend(slides)
        return scaling(self, slides)

    monkeypatch.setattr(type(task.moments), "scaling", fit_scaling)
    choose_inside(task, "abmil", folds.inner[1], quick.model_copy(update={"epochs": 1}))
    next(train_slides(task, "abmil", np.flatnonzero(~held), 0.1, quick.model_copy(update={"tiles": 9})))
    assert set(read) == set(fitted) == set(np.flatnonzero(~held).tolist())


def test_labels_of_the_outer_fold_change_nothing_of_its_scores(task, quick):
    """The strictest leakage test: with the held-out labels turned round, the held-out scores stay."""
    folds = folds_of(task, quick)
    held = folds.outer.folds == 0
    turned = np.where(held, 1 - task.labels.classes, task.labels.classes)
    labels = SlideLabels(**(vars(task.labels) | {"classes": turned}))
    other = SlideTask(**(vars(task) | {"labels": labels}))
    one, two = (cross_validate(each, "abmil", folds, quick, lambda: None) for each in (task, other))
    assert np.array_equal(one.scores[held], two.scores[held])
    assert not np.array_equal(one.scores[~held], two.scores[~held])
    assert one.chosen[0] == two.chosen[0]


def test_the_lowest_loss_on_the_inner_folds_is_taken(task, quick, monkeypatch):
    given = {0.1: [3.0, 1, 2], 0.2: [4.0, 2, 0.5], 0.3: [9.0, 9, 9]}
    monkeypatch.setattr(
        dirl.evaluate.mil.nested, "losses", lambda task, training, slides, epochs: np.array(training)
    )
    monkeypatch.setattr(dirl.evaluate.mil.nested, "train_slides", lambda *rest: given[rest[3]])
    config = quick.model_copy(update={"learning_rates": (0.1, 0.2, 0.3), "epochs": 3})
    chosen = choose_inside(task, "abmil", folds_of(task, quick).inner[0], config)
    assert chosen == Chosen(learning_rate=0.2, epochs=3)


def test_training_repeats_itself_and_leaves_the_global_seed_alone(task):
    def weights(tiles):
        torch.manual_seed(5)
        trained = next(
            train_slides(task, "abmil", np.arange(10), 0.1, MilConfig(width=8, tiles=tiles, seed=3))
        )
        model: Any = trained.model
        return model.head.weight.detach().clone(), torch.rand(1)

    (one, after), (two, again) = weights(4), weights(4)
    assert torch.equal(one, two) and torch.equal(after, again)
    assert not torch.equal(one, weights(5)[0])


def test_given_folds_and_what_they_part(task, quick):
    folds = np.array(["train" if i % 2 else "test" for i in range(24)])
    given = SlideLabels(**(vars(task.labels) | {"folds": folds}))
    ids = task.bags.slide_ids[given.bags]
    # Classes alternate as these folds do: one side has but one class, which is said first.
    with pytest.raises(ConfigError, match="class benign is left with 0 slides"):
        make_folds(given, ids, quick)
    parted = np.array([f"{i // 12}" for i in range(24)])
    with pytest.raises(ConfigError, match=r"the folds split \d+ of 12 patients, first patient p0"):
        make_folds(SlideLabels(**(vars(task.labels) | {"folds": parted})), ids, quick)


def test_groups_that_part_a_patient_are_refused(task, quick):
    sources = Sources("groups", np.array([f"g{i}" for i in range(24)]))
    with pytest.raises(ConfigError, match=r"the folds split \d+ of 12 patients"):
        make_folds(SlideLabels(**(vars(task.labels) | {"sources": sources})), task.bags.slide_ids, quick)


def test_too_few_groups(task, quick):
    with pytest.raises(
        ConfigError, match=r"class benign comes from 6 groups \(patients or slides\), too few for 7 folds"
    ):
        folds_of(task, quick.model_copy(update={"folds": 7}))
    # Of the tumours two patients are left: one in each of two folds, so none to choose on.
    keep = np.flatnonzero((task.labels.classes == 0) | (np.arange(24) % 12 < 4))
    labels = SlideLabels(
        **(
            vars(task.labels)
            | {
                "bags": task.labels.bags[keep],
                "classes": task.labels.classes[keep],
                "patients": task.labels.patients[keep],
                "sources": Sources("patients", task.labels.sources.ids[keep]),
            }
        )
    )
    with pytest.raises(ConfigError, match=r"class tumour comes from one group, too few to choose on"):
        make_folds(labels, task.bags.slide_ids[keep], quick.model_copy(update={"folds": 2}))
