"""`dirl mil` as a whole: what it finds, writes, says, and takes up again."""

import json
from pathlib import Path

import h5py
import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import typer
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from typer.testing import CliRunner

import dirl.evaluate.mil.run
import dirl.evaluate.mil.show
from dirl.cli.mil import mil as command
from dirl.config import MilConfig
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError
from dirl.evaluate.mil.nested import cross_validate
from dirl.evaluate.mil.run import mil
from dirl.evaluate.mil.show import print_mil
from dirl.features.feature_files import write_rows
from dirl.maps.grid import MapGrid, MapTiles
from dirl.maps.scaling import read_tile_weights, weights_of


@pytest.fixture
def run(tmp_path, quick):
    def run(features, labels, out="out", config=quick, **options):
        return mil(features, labels, tmp_path / out, config, quiet=True, **options)

    return run


def test_models_may_be_named_in_any_order(cohort, run, quick):
    features, labels = cohort()
    turned = quick.model_copy(update={"models": ("abmil", "mean")})
    found = run(features, labels, "a", turned).summary.models
    assert list(found) == ["mean", "abmil"] and found["abmil"].over_mean is not None
    assert run(features, labels, "a", quick).summary.models == found  # the same result


def test_planted_tiles_are_found_by_slides_and_by_attention(cohort, run, capsys):
    result = run(*cohort())
    summary = result.summary
    assert json.loads((result.path / "summary.json").read_text()) == summary.to_json()
    assert summary.task == "classification" and summary.classes == {"benign": 12, "tumour": 12}
    assert summary.split.scheme == "patients" and summary.split.groups == 12
    assert summary.split.inner_folds == [2, 2, 2]
    assert summary.interval.over == "patients" and summary.interval.units == 12
    assert summary.notes[1].startswith("No baselines")
    assert "patients from column patient_id (12)" in summary.notes[0]
    found = summary.models["abmil"]
    assert found.metrics["macro_auroc"].value > 0.9 and len(found.chosen) == 3
    assert found.over_mean.low <= found.over_mean.value <= found.over_mean.high

    table = pyarrow.csv.read_csv(result.path / "predictions.csv").to_pydict()
    rows = np.array(table["model"]) == "abmil"
    truth, guess = (np.array(table[name])[rows] for name in ("label", "predicted"))
    chances = np.array(table["p_tumour"])[rows]
    assert len(truth) == 24 and np.allclose(chances + np.array(table["p_benign"])[rows], 1)
    assert found.metrics["balanced_accuracy"].value == pytest.approx(balanced_accuracy_score(truth, guess))
    assert found.metrics["macro_auroc"].value == pytest.approx(roc_auc_score(truth == "tumour", chances))

    attention = pq.read_table(result.path / "attention" / "abmil.parquet").to_pydict()
    assert set(attention) == {"slide_id", "x", "y", "weight"}
    weights, slides = np.array(attention["weight"]), np.array(attention["slide_id"])
    planted = np.array(attention["x"]) < 3 * 224
    positive = np.array([int(slide[1:]) % 2 == 1 for slide in slides])
    assert weights[positive & planted].mean() > weights[positive & ~planted].mean()
    for slide in set(slides):
        assert weights[slides == slide].mean() == pytest.approx(1)
    print_mil(result)
    shown = capsys.readouterr().out
    for text in (
        "ABMIL",
        "mean pooling",
        "AUROC",
        "12 patients",
        "24 slides",
        "No baselines",
        "summary.json",
    ):
        assert text in shown


def test_a_map_takes_the_attention_as_weights(cohort, run):
    result = run(*cohort())
    weights = read_tile_weights(result.path / "attention" / "abmil.parquet", "s01")
    assert len(weights) >= 6 and (weights[:, 1] == 448).all()
    # Tiles of 14 tokens of 16 px, one of which lies between the first two of the bag.
    grid = MapGrid(
        shape=(60, 60), token_level0_px=16, token_um=8, tile_px=224, tile_tokens=14, stride_tokens=7
    )
    tiles = MapTiles(np.array([28, 28]), np.array([0, 7]), np.ones(2))
    found = weights_of(tiles, grid, weights, "file")
    first, second = weights[np.argsort(weights[:, 0])][:2, 2]
    expected = np.array([first, (first + second) / 2])
    assert np.allclose(found, expected / expected.mean())


def test_survival(cohort, run, capsys, quick):
    times = [i if i % 2 else 50 + i for i in range(24)]
    given = {"event": [int(i % 5 > 0) for i in range(24)], "fold": [i // 2 % 6 % 2 for i in range(24)]}
    features, labels = cohort({"time": times} | given)
    config = quick.model_copy(update={"survival": True, "epochs": 12, "learning_rates": (0.05,)})
    result = run(features, labels, config=config)
    assert result.summary.models["abmil"].metrics["concordance"].value > 0.55
    assert result.summary.task == "survival" and result.summary.classes == {"censored": 5, "event": 19}
    table = pyarrow.csv.read_csv(result.path / "predictions.csv")
    assert {"time", "event", "log_risk"} <= set(table.column_names)
    print_mil(result)
    assert "concordance" in capsys.readouterr().out


def test_what_needs_classes_is_not_asked_of_survival(cohort, run, quick):
    features, labels = cohort({"time": list(range(24)), "event": [1] * 24})
    config = quick.model_copy(update={"survival": True, "models": None, "folds": 2, "epochs": 1})
    summary = run(features, labels, config=config).summary
    assert list(summary.models) == ["mean", "abmil", "transmil", "dsmil"]
    assert any(note.startswith("clam is left out") for note in summary.notes)
    with pytest.raises(ConfigError, match=r"--model clam: .* needs classes"):
        run(features, labels, "other", config.model_copy(update={"models": ("clam",)}))


def test_interrupted_work_goes_on_and_the_same_comes_again(cohort, run, quick, monkeypatch, tmp_path):
    features, labels = cohort()
    short = quick.model_copy(update={"epochs": 2})
    whole = run(features, labels, "whole", short)
    calls: list[str] = []

    def failing(task, name, *rest):
        calls.append(name)
        if calls == ["mean", "abmil"]:
            raise KeyboardInterrupt
        return cross_validate(task, name, *rest)

    monkeypatch.setattr(dirl.evaluate.mil.run, "cross_validate", failing)
    with pytest.raises(KeyboardInterrupt):
        run(features, labels, config=short)
    assert not (tmp_path / "out" / "summary.json").exists()
    again = run(features, labels, config=short)
    assert calls == ["mean", "abmil", "abmil"] and not (again.path / "unfinished").exists()
    assert again.summary.results == whole.summary.results
    assert run(features, labels, config=short).summary == again.summary and len(calls) == 3
    with pytest.raises(StoreError, match=r"made with other settings .*epochs 2 there, 1 now"):
        run(features, labels, config=quick.model_copy(update={"epochs": 1}))


def test_baselines_stand_beside_features(cohort, run, quick, tmp_path, capsys):
    folder, labels = cohort()
    card = claim(tmp_path / "f", new_card("embed", {"encoder": "mine"}, {"store": "s"}))
    for file in folder.glob("*.h5"):
        with h5py.File(file) as handle:
            values, coords = handle["features"][:], handle["coords"][:]
        write_rows(tmp_path / "f" / "h5_files" / file.name, {"features": values, "coords": coords})
        # One baseline is as good as the features, the others are the same for every slide.
        baselines = dict.fromkeys(("untrained", "colour_statistics"), 0 * values[:, :2])
        write_rows(tmp_path / "f" / "baselines" / file.name, baselines | {"colour_histogram": values})
    finish(tmp_path / "f", card, {})
    result = run(tmp_path / "f", labels, config=quick.model_copy(update={"models": ("abmil",), "epochs": 3}))
    ours, *others = (one["abmil"] for one in result.summary.results.values())
    assert result.summary.encoder == "mine" and len(others) == 3
    assert others[0].metrics["macro_auroc"].value < 0.8 and others[2] == ours
    assert not any("baselines" in note for note in result.summary.notes)
    print_mil(result)
    assert "(untrained" in capsys.readouterr().out


def test_left_out_slides_are_counted_and_noted(cohort, run, quick, write_bag):
    features, labels = cohort()
    write_bag("s00", np.ones((0, 5)))
    with pytest.raises(ConfigError, match="1 without tiles: s00"):
        run(features, labels)
    result = run(features, labels, config=quick.model_copy(update={"leave_out": True, "models": ("mean",)}))
    assert result.summary.left_out == {"without tiles": ["s00"]} and result.summary.slides == 23
    assert "Left out: 1 slides without tiles." in result.summary.notes


def test_the_command_passes_its_options_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("f").mkdir()
    Path("l.csv").touch()
    called: dict[str, object] = {}

    def fake(features, labels, out, config, **options):
        called.update(features=features, labels=labels, out=out, config=config, **options)

    monkeypatch.setattr(dirl.evaluate.mil.run, "mil", fake)
    monkeypatch.setattr(dirl.evaluate.mil.show, "print_mil", lambda result: None)
    app = typer.Typer()
    app.command()(command)
    arguments = "f --labels l.csv --out o --groups patient --survival --model abmil --model mean --folds 4"
    arguments += " --inner-folds 2 --epochs 9 --tiles 7 --leave-out --seed 3 --overwrite --quiet"
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, result.output
    assert called["config"] == MilConfig(
        groups="patient", survival=True, models=("abmil", "mean"), folds=4, inner_folds=2, epochs=9, tiles=7,
        leave_out=True, seed=3,
    )  # fmt: skip
    assert called["overwrite"] and called["quiet"] and called["device"] == "auto"
