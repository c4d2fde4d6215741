"""The robustness index by hand, centres left out, and who tells the centre."""

import numpy as np
import pytest

from dirl.config import RobustConfig
from dirl.core.errors import ConfigError
from dirl.evaluate.common.labels import Labels
from dirl.evaluate.common.task import LabelledTiles
from dirl.evaluate.robust.centres import across_centres, robustness_index, take_equally
from tests.known import known

CONFIG = RobustConfig(bootstrap=50, neighbours=(5,), folds=3)


@pytest.fixture(autouse=True)
def few_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path over C is tested with the linear probe itself."""
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([0.01, 1.0]))


def tiles(count_each: int = 12) -> LabelledTiles:
    """Two classes at two centres, three patients in each cell."""
    cells = [(c, p) for c in ("stroma", "tumour") for p in ("here", "there")]
    classes = np.repeat([c for c, _ in cells], count_each)
    centres = np.repeat([p for _, p in cells], count_each)
    patients = np.array([f"{p} {i % 3}" for _, p in cells for i in range(count_each)])
    names = np.array([f"t{i}" for i in range(len(classes))])
    return LabelledTiles(
        numbers=np.arange(len(names)),
        given=Labels(classes),
        tile_ids=names,
        slide_ids=patients,
        patient_ids=patients,
        labels=classes,
        centres=centres,
        ready_made=np.zeros(len(names), bool),
    )


def features_of(names: np.ndarray) -> np.ndarray:
    noise = 0.05 * np.random.default_rng(0).normal(size=(len(names), 4))
    return np.eye(4)[np.unique(names, return_inverse=True)[1]] + noise


def test_the_index_is_one_for_tissue_and_zero_for_the_place() -> None:
    t = tiles()
    for names, expected in ((t.given.classes, 1.0), (t.centres, 0.0)):
        found = robustness_index(features_of(names), t.given.classes, t.centres, t.sources, CONFIG)
        assert found.value == expected


def test_the_index_by_hand() -> None:
    # Of one query: neighbours of its own patient do not count, those alike or unlike in both do not either.
    values = np.array([[1, 0], [1, 0.01], [1, 0.1], [1, 0.2], [1, 0.3], [1, 0.4], [1, 0.5], [1, 0.6]], float)
    classes = np.array(["a", "a", "a", "a", "b", "b", "b", "b"])
    centres = np.array(["x", "x", "y", "y", "x", "x", "y", "y"])
    sources = np.array(["p", "p", "q", "r", "s", "t", "u", "v"])
    config = RobustConfig(neighbours=(3,), bootstrap=20)
    angle = np.arctan2(values[:, 1], values[:, 0])
    so = os = 0
    for i in range(8):
        others = [j for j in np.argsort(abs(angle - angle[i]), kind="stable") if sources[j] != sources[i]][:3]
        so += sum(classes[j] == classes[i] and centres[j] != centres[i] for j in others)
        os += sum(classes[j] != classes[i] and centres[j] == centres[i] for j in others)
    assert robustness_index(values, classes, centres, sources, config).value == pytest.approx(so / (so + os))


def test_every_class_is_taken_equally_often_at_every_centre() -> None:
    classes = np.array(["a"] * 9 + ["b"] * 5 + ["only here"] * 4)
    centres = np.array(["x"] * 6 + ["y"] * 3 + ["x"] * 2 + ["y"] * 3 + ["x"] * 4)
    kept = take_equally(classes, centres, seed=0)
    assert sorted(zip(classes[kept], centres[kept], strict=True)) == [
        pair for pair in (("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")) for _ in range(2)
    ]
    with pytest.raises(ConfigError, match="1 centres"):
        take_equally(classes, np.full(len(classes), "x"), seed=0)


@pytest.mark.parametrize("groups", ["auto", "patient", "stain"])
def test_centres_left_out_and_named(groups: str) -> None:
    t = tiles()
    config = CONFIG.model_copy(update={"groups": groups})
    colours = np.random.default_rng(1).random((len(t.tile_ids), 6))
    tissue = across_centres(features_of(t.given.classes), t, colours, config, lambda: None)
    assert tissue.notes == [] and tissue.centres == ["here", "there"]
    left_out, named = known(tissue.left_out), known(tissue.named)
    assert left_out.knn.value == left_out.by_centre["here"].knn == 1.0
    assert named.chance == 0.5 and known(named.linear.value) < 0.8
    assert left_out.by_centre.keys() == {"here", "there"}
    place = across_centres(features_of(t.centres), t, colours, config, lambda: None)
    assert known(place.named).knn.value == 1.0
    assert known(known(place.left_out).linear.value) < 0.8


def test_what_these_tiles_do_not_allow_for_is_said() -> None:
    t = tiles()
    one_place = LabelledTiles(**{**vars(t), "centres": np.full(len(t.tile_ids), "here")})
    found = across_centres(
        features_of(t.given.classes), one_place, features_of(t.centres), CONFIG, lambda: None
    )
    assert found.robustness_index is None and found.left_out is None and found.named is None
    assert len(found.notes) == 3
