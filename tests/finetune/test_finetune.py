"""`dirl finetune` as a whole: what it learns, whose folds it has, what it takes up again, bad requests."""

import json
from pathlib import Path

import numpy as np
import pyarrow.csv
import pytest
import torch
import typer
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from typer.testing import CliRunner

import dirl.evaluate.finetune.run
import dirl.evaluate.finetune.show
from dirl.cli.finetune import finetune as command
from dirl.config import EmbedConfig, FinetuneConfig, ProbeConfig, ViewsConfig
from dirl.core.card import new_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, StoreError, TrainingError
from dirl.evaluate.compare.run import compare
from dirl.evaluate.finetune.run import finetune
from dirl.evaluate.finetune.show import print_finetune
from dirl.evaluate.finetune.train import score_fold, turn_and_stain
from dirl.evaluate.probe.run import probe
from dirl.features.embed import embed
from dirl.store.dataset import TileStore

GROUPS = [f"g{i // 2 % 8}" for i in range(64)]


@pytest.fixture
def run(tmp_path, shapes, quick):
    def run(encoder, labels, out="out", config=quick, **options):
        return finetune(encoder, shapes, labels, tmp_path / out, config, device="cpu", quiet=True, **options)

    return run


def test_a_shape_that_colour_does_not_tell_is_learnt(run, encoder, write_labels, capsys):
    result = run(encoder, write_labels(group=GROUPS))
    summary = result.summary
    assert json.loads((result.path / "summary.json").read_text()) == summary.to_json()
    assert summary.split.scheme == "groups" and summary.interval.units == 8
    assert summary.leak.histogram_knn == pytest.approx(0.5, abs=0.2) and not summary.leak.flagged
    assert list(summary.results.by_name) == ["finetuned", "untrained", "frozen"]
    ours = summary.results.finetuned
    assert ours.balanced_accuracy.value > 0.95
    assert [each.learning_rate for each in ours.chosen] == [1e-2, 1e-2]
    table = pyarrow.csv.read_csv(result.path / "predictions.csv").to_pydict()
    trained = [
        each.epochs for name in ("finetuned", "untrained") for each in summary.results.by_name[name].chosen
    ]
    last = trained.count(12)
    taken, *found = summary.notes
    assert taken.startswith("labels.csv: tiles from column tile_id (64)")
    notes = [f"In {last} of 4 trainings the last epoch was the best: more --epochs may score higher."]
    assert found == (notes if last else [])
    for name, one in summary.results.by_name.items():
        rows = np.array(table["model"]) == name
        truth, guess, chance = (np.array(table[key])[rows] for key in ("label", "predicted", "p_wide"))
        assert rows.sum() == 64 and len(set(np.array(table["tile_id"])[rows])) == 64
        assert np.allclose(chance + np.array(table["p_thin"])[rows], 1)
        assert one.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(truth, guess))
        assert one.macro_auroc.value == pytest.approx(roc_auc_score(truth == "wide", chance))
    for other in ("frozen", "untrained"):
        difference = ours.balanced_accuracy.value
        difference -= summary.results.by_name[other].balanced_accuracy.value
        assert getattr(ours, f"over_{other}").value == pytest.approx(difference)
    print_finetune(result)
    shown = capsys.readouterr().out
    for text in ("fine-tuned", "frozen", "untrained", "0.01", "by groups", "summary.json"):
        assert text in shown


@pytest.mark.parametrize("tiles", [None, 40])
def test_folds_are_those_of_a_probe_and_both_stand_in_one_table(run, encoder, shapes, quick, tmp_path, tiles):
    config = quick.model_copy(update={"epochs": 1, "groups": "auto", "tiles": tiles, "seed": 3})
    tuned = run(encoder, "label", "simple", config)
    features = embed(
        encoder, shapes, tmp_path / "f", EmbedConfig(tiles=tiles, seed=3), device="cpu", quiet=True
    )
    settings = ProbeConfig(folds=2, neighbours=(5,), bootstrap=50, seed=3)
    probed = probe(features.path, "label", tmp_path / "probed" / "simple", settings, quiet=True)
    assert tuned.summary.split == probed.summary.split and probed.summary.split.scheme == "stain"
    assert tuned.summary.leak == probed.summary.leak
    assert tuned.summary.interval == probed.summary.interval
    frozen = probed.summary.results["features"].linear.balanced_accuracy
    assert tuned.summary.results.frozen.balanced_accuracy == frozen
    both = compare([probed.path, tuned.path], tmp_path / "both").summary
    assert list(both.measures) == ["linear"]
    assert both.items == (tiles or 64)
    names = {"simple", "simple, fine-tuned", "simple, untrained, fine-tuned", "simple, untrained"}
    assert names <= {entry.name for entry in both.entries}
    scored = both.measures["linear"].entries["simple, fine-tuned"]["balanced_accuracy"].value
    assert scored == pytest.approx(tuned.summary.results.finetuned.balanced_accuracy.value)


def test_interrupted_work_goes_on_and_ends_alike(run, encoder, write_labels, quick, monkeypatch, tmp_path):
    labels, short = write_labels(group=GROUPS), quick.model_copy(update={"epochs": 2})
    whole = run(encoder, labels, "whole", short)
    calls: list[int] = []

    def failing(material, fold, advance):
        calls.append(fold)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score_fold(material, fold, advance)

    monkeypatch.setattr(dirl.evaluate.finetune.run, "score_fold", failing)
    with pytest.raises(KeyboardInterrupt):
        run(encoder, labels, config=short)
    assert not (tmp_path / "out" / "summary.json").exists()
    again = run(encoder, labels, config=short)
    assert calls == [0, 1, 1, 0, 1] and not (again.path / "unfinished").exists()
    assert again.summary == whole.summary
    written = [(path / "predictions.csv").read_bytes() for path in (whole.path, again.path)]
    assert written[0] == written[1]
    assert run(encoder, labels, config=short).summary == again.summary and len(calls) == 5
    with pytest.raises(StoreError, match=r"made with other settings .*epochs 2 there, 1 now"):
        run(encoder, labels, config=quick.model_copy(update={"epochs": 1}))


def test_labels_of_held_out_tiles_touch_no_prediction(run, encoder, write_labels, shapes, quick):
    config, truth = quick.model_copy(update={"epochs": 2}), TileStore.open(shapes).labels
    folds = np.array(["train" if int(group[1:]) < 5 else "test" for group in GROUPS])
    permuted, tested = truth.copy(), np.flatnonzero(folds == "test")
    permuted[tested] = truth[np.random.default_rng(1).permutation(tested)]
    assert (permuted != truth).sum() > 4
    found = []
    for name, labels in (("as", truth), ("permuted", permuted)):
        file = write_labels(f"{name}.csv", label=labels.tolist(), group=GROUPS, fold=folds.tolist())
        table = pyarrow.csv.read_csv(run(encoder, file, name, config).path / "predictions.csv").to_pydict()
        assert len(table["tile_id"]) == 3 * len(tested)
        found.append((table["model"], table["tile_id"], table["p_wide"], table["predicted"]))
    assert found[0] == found[1]


def test_a_random_encoder_is_its_own_control(run, encoder, write_labels, quick):
    config = quick.model_copy(update={"epochs": 1})
    random = encoder.partition(",weights=")[0] + ",weights=random," + encoder.split(",", 2)[2]
    summary = run(random, write_labels(group=GROUPS), config=config).summary
    assert (
        list(summary.results.by_name) == ["finetuned", "frozen"]
        and "own untrained control" in summary.notes[-1]
    )


def test_augmentation_turns_and_flips_and_is_counted(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8, generator=generator)
    samples = torch.arange(60)
    stained = turn_and_stain(image.expand(60, -1, -1, -1), samples, seed=1)
    assert torch.equal(turn_and_stain(image, samples[7:8], seed=1), stained[7:8])
    assert float(stained.min()) >= 0 and float(stained.max()) <= 1
    monkeypatch.setattr(
        "dirl.evaluate.finetune.train.VIEWS", ViewsConfig(crop_area=(1, 1), crop_aspect=(1, 1))
    )
    plain = turn_and_stain(image.expand(60, -1, -1, -1), samples, seed=1)
    whole = image.float() / 255
    symmetries = [torch.rot90(each, k, (2, 3)) for each in (whole, whole.flip(3)) for k in range(4)]
    met = [next(k for k, s in enumerate(symmetries) if torch.allclose(s[0], one, atol=1e-3)) for one in plain]
    assert set(met) == set(range(8))
    assert 0 < (stained - plain).abs().mean() < 0.05


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"tile_id": [f"x{i}" for i in range(64)]},
            r"names no tile of these tiles \(such as x0\)",
        ),
        ({"label": ["wide"] * 64}, "all 64 labelled tiles are of the class wide"),
        ({"label": [""] * 64}, "no labels"),
        ({"group": ["g0"] * 64}, r"the class thin comes from 1 group .*too few for 2 folds"),
        (
            {"label": ["rare", *["wide"] * 63], "fold": ["a"] * 60 + ["b"] * 4},
            "the class rare is left with 0",
        ),
    ],
)
def test_bad_labels(run, encoder, write_labels, columns, message, tmp_path, quick):
    config = quick.model_copy(update={"groups": "auto"})
    with pytest.raises(ConfigError, match=message):
        run(encoder, write_labels(**columns), config=config)
    assert not (tmp_path / "out").exists()


def test_training_that_is_not_finite_is_no_result(run, encoder, write_labels, quick, tmp_path):
    config = quick.model_copy(update={"epochs": 1, "learning_rates": (1e30,)})
    with pytest.raises(TrainingError, match="not finite at any learning rate"):
        run(encoder, write_labels(group=GROUPS), config=config)
    assert not (tmp_path / "out" / "summary.json").exists()


def test_the_command_passes_its_options_on(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    claim(Path("s"), new_card("tile", {}))
    Path("e/encoder").mkdir(parents=True)
    for name in ("e/encoder/config.json", "l.csv"):
        Path(name).touch()
    called: dict[str, object] = {}

    def fake(*arguments, **options):
        called.update(arguments=[str(each) for each in arguments[:4]], config=arguments[4], **options)

    monkeypatch.setattr(dirl.evaluate.finetune.run, "finetune", fake)
    monkeypatch.setattr(dirl.evaluate.finetune.show, "print_finetune", lambda result: None)
    app = typer.Typer()
    app.command()(command)
    arguments = "e --store s --labels l.csv --out o --tiles 9 --folds 3 --groups patient --epochs 4 --batch 2"
    arguments += " --device cpu --workers 1 --seed 5 --overwrite --quiet"
    result = CliRunner().invoke(app, arguments.split())
    assert result.exit_code == 0, result.output
    assert called == {
        "arguments": ["e", "s", "l.csv", "o"],
        "config": FinetuneConfig(tiles=9, folds=3, groups="patient", epochs=4, batch=2, seed=5),
        "device": "cpu", "workers": 1, "overwrite": True, "quiet": True,
    }  # fmt: skip
