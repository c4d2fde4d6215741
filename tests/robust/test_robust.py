"""`dirl robust` from end to end on drawn tiles: what it writes, that it goes on, and bad requests."""

import csv
from pathlib import Path

import numpy as np
import pytest

from dirl.config import RobustConfig, make
from dirl.core.errors import ConfigError, StoreError
from dirl.encoders import loading
from dirl.evaluate.robust import run as whole
from dirl.evaluate.robust.conditions import Condition
from dirl.evaluate.robust.run import robust
from dirl.evaluate.robust.score import mean_distance
from dirl.evaluate.robust.show import print_robust
from dirl.store.dataset import TileStore
from tests.known import known

ENCODER = "timm:vit_tiny_patch16_224,weights=random,embed_dim=24,depth=1,num_heads=2,img_size=64"
CONFIG = RobustConfig(
    bootstrap=30, folds=2, neighbours=(5,), damage=("jpeg", "stain", "rotation"), severities=(1, 3)
)
FEW = (Condition("clean"), *(Condition(k, s) for k in ("jpeg", "stain") for s in (1, 3)))
FEW = (*FEW, Condition("rotation", 0), Condition("rotation", 90))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few angles and costs: each is tested by itself."""
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([1.0]))
    for module in ("conditions", "figures"):
        monkeypatch.setattr(f"dirl.evaluate.robust.{module}.ANGLES", (0, 90))


@pytest.fixture
def labels(small_store, tmp_path):
    """Two made-up classes, by how blue a tile is."""
    store = TileStore.open(small_store)
    blue = np.array([store.image(i)[..., 0].mean() for i in range(len(store))])
    path = tmp_path / "labels.csv"
    with path.open("w", newline="") as handle:
        rows = csv.writer(handle)
        rows.writerow(["tile_id", "label", "group"])
        for i, tile in enumerate(store.tile_ids.tolist()):
            rows.writerow([tile, "dark" if blue[i] < np.median(blue) else "pale", f"g{i % 8}"])
    return str(path)


def test_it_measures_every_condition(small_store, labels, tmp_path, capsys) -> None:
    out = tmp_path / "robust"
    result = robust(ENCODER, small_store, labels, out, CONFIG, device="cpu", quiet=True)
    for name in ("features", "untrained", "colour_histogram"):
        conditions = result.summary.results[name].conditions
        assert set(conditions) == {str(condition) for condition in FEW}
        for base in ("clean-0", "rotation-0"):
            assert conditions[base].drift.value == pytest.approx(0, abs=1e-6)
            assert conditions[base].linear_change.value == 0
        mild, severe = conditions["stain-1"], conditions["stain-3"]
        assert known(severe.drift.value) > known(mild.drift.value) > 0
        assert known(severe.drift_share.value) > known(severe.drift.value)
    turned = result.summary.results["colour_histogram"].conditions["rotation-90"]
    assert turned.drift.value == pytest.approx(0, abs=1e-6)  # colours do not turn
    rows = list(csv.DictReader((out / "robustness.csv").read_text().splitlines()))
    assert len(rows) == 3 * len(FEW) * len(whole.MEASURES)
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert drawn == {f"{n}.{kind}" for n in ("score", "drift", "rotation") for kind in ("png", "svg")}
    print_robust(result)
    assert "stain" in capsys.readouterr().out
    assert robust(ENCODER, small_store, labels, out, CONFIG, device="cpu", quiet=True) == result


@pytest.mark.parametrize(
    ("damage", "severities", "drawn"),
    [(("stain",), (3,), ("score", "drift")), (("rotation",), (1,), ("rotation",))],
)
def test_what_is_not_asked_for_is_left_out(
    damage, severities, drawn, small_store, labels, tmp_path, capsys
) -> None:
    config = CONFIG.model_copy(update={"damage": damage, "severities": severities})
    out = tmp_path / "robust"
    result = robust(ENCODER, small_store, labels, out, config, device="cpu", quiet=True)
    kinds = {name.rpartition("-")[0] for name in result.summary.results["features"].conditions}
    assert kinds == {"clean", *damage}
    assert {path.stem for path in (out / "figures").iterdir()} == set(drawn)
    print_robust(result)
    told = capsys.readouterr().out
    assert ("stain" in told) == ("stain" in damage) and ("Turned" in told) == ("rotation" in damage)


def test_without_baselines_the_encoder_measures_the_same(small_store, labels, tmp_path, capsys) -> None:
    results = {}
    for baselines in (True, False):
        out = tmp_path / f"baselines-{baselines}"
        result = robust(
            ENCODER, small_store, labels, out, CONFIG, baselines=baselines, device="cpu", quiet=True
        )
        results[baselines] = result.summary.results
    assert results[False] == {"features": results[True]["features"]}
    print_robust(result)
    assert "untrained" not in capsys.readouterr().out
    assert "untrained encoder" not in (out / "figures" / "drift.svg").read_text()
    with pytest.raises(StoreError, match="other"):
        robust(ENCODER, small_store, labels, out, CONFIG, device="cpu", quiet=True)


def test_interrupted_work_goes_on(small_store, labels, tmp_path, monkeypatch) -> None:
    forward, calls = loading.embed_images, []

    def counted(*args):
        calls.append(1)
        return forward(*args)

    def failing(*args):
        if len(calls) == 5:
            raise KeyboardInterrupt
        return counted(*args)

    monkeypatch.setattr("dirl.evaluate.robust.damaged.embed_images", counted)
    expected = robust(ENCODER, small_store, labels, tmp_path / "a", CONFIG, device="cpu", quiet=True)
    whole_work, again = len(calls), tmp_path / "b"
    calls.clear()
    monkeypatch.setattr("dirl.evaluate.robust.damaged.embed_images", failing)
    with pytest.raises(KeyboardInterrupt):
        robust(ENCODER, small_store, labels, again, CONFIG, device="cpu", quiet=True)
    kept = len([*(again / "unfinished").iterdir()])
    assert 0 < kept < len(FEW)
    calls.clear()
    monkeypatch.setattr("dirl.evaluate.robust.damaged.embed_images", counted)
    found = robust(ENCODER, small_store, labels, again, CONFIG, device="cpu", quiet=True)
    assert found.summary == expected.summary
    assert len(calls) == whole_work - kept * whole_work // len(FEW)
    assert not (again / "unfinished").exists()


def test_folds_that_cannot_be_dealt_are_refused_before_anything_is_embedded(
    small_store, labels, tmp_path
) -> None:
    config = CONFIG.model_copy(update={"folds": 30})
    with pytest.raises(ConfigError, match="30 folds"):
        robust(ENCODER, small_store, labels, tmp_path / "out", config, device="cpu", quiet=True)
    assert not (tmp_path / "out").exists()


def test_bad_requests(small_store, labels, tmp_path) -> None:
    for wrong in ({"damage": ("rust",)}, {"damage": ()}, {"damage": ("pen", "pen")}, {"severities": (6,)}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            make(RobustConfig, wrong)
    with pytest.raises(ConfigError, match="no such column or file"):
        robust(ENCODER, small_store, "nothing", tmp_path / "a", CONFIG, device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="too few"):
        many = RobustConfig(folds=9, bootstrap=10)
        robust(ENCODER, small_store, labels, tmp_path / "b", many, device="cpu", quiet=True)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine.txt").write_text("mine")
    with pytest.raises(StoreError, match="not made by dirl"):
        robust(ENCODER, small_store, labels, tmp_path / "c", CONFIG, device="cpu", quiet=True)


def test_other_folds_are_another_measurement(small_store, labels, tmp_path) -> None:
    lines = Path(labels).read_text().splitlines()
    for name, turned in (("one", 0), ("other", 1)):
        folds = [f"{line},f{(int(line[-1]) + turned) // 2 % 2}" for line in lines[1:]]
        (tmp_path / "folds.csv").write_text("\n".join([f"{lines[0]},fold", *folds]))
        given = str(tmp_path / "folds.csv")
        if name == "one":
            robust(ENCODER, small_store, given, tmp_path / "out", CONFIG, device="cpu", quiet=True)
        else:
            with pytest.raises(StoreError, match="made with other settings"):
                robust(ENCODER, small_store, given, tmp_path / "out", CONFIG, device="cpu", quiet=True)


def test_the_spread_is_the_mean_over_pairs() -> None:
    values = np.random.default_rng(0).normal(size=(7, 3)) + 1
    unit = values / np.linalg.norm(values, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for i in range(7) for j in range(7) if i != j]
    assert mean_distance(values) == pytest.approx(np.mean(pairs))
