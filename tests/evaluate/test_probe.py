"""A whole probe: what it says of good, useless and leaking features, and of bad requests."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest

from dirl.config import ProbeConfig
from dirl.core.errors import ConfigError, StoreError
from dirl.core.results import Result, read_as
from dirl.evaluate.probe.run import probe
from dirl.evaluate.probe.show import print_probe
from dirl.evaluate.probe.summary import ProbeSummary
from tests.known import known

Maker = Callable[..., Path]
CONFIG = ProbeConfig(bootstrap=100)
CLASSES = np.repeat(["a", "b", "c"], 60)


@pytest.fixture(autouse=True)
def few_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole path over C is tested with the linear probe itself."""
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([0.01, 1.0, 100.0]))


def signal(seed=0, strength=1.0):
    """Features that tell the classes apart."""
    generator = np.random.default_rng(seed)
    return strength * np.repeat(np.eye(3, 8), 60, axis=0) + 0.3 * generator.normal(size=(180, 8))


def colours(seed=1):
    """Colours that do not."""
    return np.random.default_rng(seed).random((180, 6))


def patients():
    return np.array([f"p{i % 15}" for i in range(180)])


def test_good_features_pass_the_gate(make_features: Maker, tmp_path: Path) -> None:
    features = make_features(signal(), colours(), CLASSES, patients=patients())
    result = probe(features, "label", tmp_path / "out", CONFIG, quiet=True)
    summary = result.summary
    assert read_as(result.path, ProbeSummary) == result
    assert json.loads((result.path / "summary.json").read_text()) == summary.to_json()
    frame = result.to_pandas()
    chosen = frame.query("features == 'features' and classifier == 'linear' and metric == 'macro_f1'")
    assert chosen["value"].item() == summary.results["features"].linear.macro_f1.value
    assert list(summary.results) == ["features", "untrained", "colour_statistics", "colour_histogram"]
    ours, baseline = (summary.results[n] for n in ("features", "colour_histogram"))
    assert list(ours.classifiers) == ["knn20", "knn5", "knn10", "linear"]
    for how, scores in ours.classifiers.items():
        assert known(scores.balanced_accuracy.low) > 0.8 > 0.6
        assert known(baseline.classifiers[how].balanced_accuracy.high) < 0.6
    assert len(ours.costs) == 5 and ours.width == 8
    assert summary.split.scheme == "patients" and summary.split.groups == 15
    assert summary.interval.over == "patients" and summary.interval.units == 15
    assert summary.gate.form == "full" and summary.gate.passed
    assert not known(summary.leak).flagged and summary.notes == []
    table = pq.read_table(result.path / "predictions.parquet").to_pydict()
    right = np.array(table["knn20"]) == np.array(table["label"])
    recall = np.mean([right[np.array(table["label"]) == c].mean() for c in "abc"])
    assert ours.knn(20).balanced_accuracy.value == pytest.approx(recall)
    by_patient = dict(zip(table["group"], table["fold"], strict=True))
    assert all(by_patient[g] == f for g, f in zip(table["group"], table["fold"], strict=True))


def test_useless_features_do_not(make_features: Maker, tmp_path: Path) -> None:
    features = make_features(colours(7), colours(), CLASSES, patients=patients())
    summary = probe(features, "label", tmp_path / "out", CONFIG, quiet=True).summary
    assert not summary.gate.passed and summary.gate.form is None
    assert summary.gate.statement.startswith("The gate with labels is not passed")


def test_the_weaker_form_is_named_as_such(make_features: Maker, tmp_path: Path) -> None:
    # Colour tells a from the rest, the features b from c: each alone gets two thirds, both together all.
    generator = np.random.default_rng(0)
    colour = np.repeat([[1.0, 0, 0], [0, 1, 0], [0, 1, 0]], 60, axis=0) + 0.05 * generator.random((180, 3))
    ours = np.repeat([[1.0, 0, 0], [0, 1, 0], [1, 0, 0]], 60, axis=0) + 0.05 * generator.random((180, 3))
    features = make_features(ours, colour, CLASSES, patients=patients())
    gate = probe(features, "label", tmp_path / "out", CONFIG, quiet=True).summary.gate
    assert gate.passed and gate.form == "weaker" and "weaker form" in gate.statement


def test_a_split_that_leaks_is_flagged(make_features: Maker, tmp_path: Path) -> None:
    features = make_features(signal(), signal(3), CLASSES)
    rows = [f"t{i},{CLASSES[i]},{i % 5}" for i in range(180)]
    (tmp_path / "random.csv").write_text("tile_id,label,fold\n" + "\n".join(rows))
    summary = probe(features, str(tmp_path / "random.csv"), tmp_path / "out", CONFIG, quiet=True).summary
    leak = known(summary.leak)
    assert leak.flagged and known(leak.histogram_knn) > 0.8
    assert any("leaks" in note for note in summary.notes)
    assert summary.split.scheme == "folds" and summary.interval.over == "tiles"


def test_stain_folds_say_so(make_features: Maker, tmp_path: Path) -> None:
    summary = probe(
        make_features(signal(), colours(), CLASSES), "label", tmp_path / "out", CONFIG, quiet=True
    ).summary
    assert (summary.split.scheme, summary.split.folds, summary.split.groups) == ("stain", 5, 30)
    assert "clusters of stain" in summary.notes[0] and "too narrow" in summary.notes[1]


def test_labels_of_slides_unlabelled_tiles_and_unknown_rows(make_features: Maker, tmp_path: Path) -> None:
    slides = np.array([f"s{i // 6}" for i in range(180)])
    features = make_features(signal(), colours(), np.full(180, ""), slides=slides, ready_made=False)
    rows = [f"s{i},{'abc'[i // 10]}" for i in range(30) if i != 4]
    (tmp_path / "slides.csv").write_text("slide_id,label\n" + "\n".join(rows) + "\nelsewhere,a\n")
    summary = probe(features, str(tmp_path / "slides.csv"), tmp_path / "out", CONFIG, quiet=True).summary
    assert (summary.tiles, summary.unlabelled, summary.unknown) == (174, 6, 1)
    assert summary.split.scheme == "slides" and summary.interval.units == 29
    assert summary.notes[-1].endswith("missing tiles or slides: 1.")


def test_train_and_test_as_given(make_features: Maker, tmp_path: Path) -> None:
    features = make_features(signal(), colours(), CLASSES)
    rows = [f"t{i},{CLASSES[i]},{'test' if i % 3 == 0 else 'train'},g{i % 12}" for i in range(180)]
    (tmp_path / "l.csv").write_text("tile_id,label,fold,group\n" + "\n".join(rows))
    summary = probe(features, str(tmp_path / "l.csv"), tmp_path / "out", CONFIG, quiet=True).summary
    assert summary.tiles == 60 and summary.split.folds == 1
    assert summary.interval.over == "tiles"  # of the 12 groups, four are held out


def test_patients_are_kept_together_where_they_are_asked_for(make_features: Maker, tmp_path: Path) -> None:
    features = make_features(signal(), colours(), CLASSES, patients=patients())
    rows = [f" t{i} ,{CLASSES[i]},g{i % 12}" for i in range(180)]
    (tmp_path / "l.csv").write_text("tile_id,label,group\n" + "\n".join(rows))
    for groups, scheme in (("patient", "patients"), ("auto", "groups")):
        config = CONFIG.model_copy(update={"groups": groups})
        done = probe(features, str(tmp_path / "l.csv"), tmp_path / groups, config, quiet=True)
        assert done.summary.split.scheme == scheme


def test_baselines_are_given_their_better_form(make_features: Maker, tmp_path: Path) -> None:
    # One wide channel of noise hides the classes from cosines, until all are equally wide.
    noise = 100 * np.random.default_rng(3).normal(size=(180, 1))
    hidden = np.concatenate([signal(), noise], axis=1)
    features = make_features(hidden, hidden, CLASSES, patients=patients())
    found = probe(features, "label", tmp_path / "out", CONFIG, quiet=True).summary.results
    ours, baseline = found["features"], found["colour_histogram"]
    assert (ours.form, baseline.form) == ("raw", "standardised")
    assert known(ours.knn(20).balanced_accuracy.high) < known(baseline.knn(20).balanced_accuracy.low)


def test_the_same_again_and_other_settings(make_features: Maker, tmp_path: Path) -> None:
    features, out = make_features(signal(), colours(), CLASSES), tmp_path / "out"
    first = probe(features, "label", out, CONFIG, quiet=True)
    written = (out / "summary.json").stat().st_mtime_ns
    assert probe(features, "label", out, CONFIG, quiet=True).summary == first.summary
    assert (out / "summary.json").stat().st_mtime_ns == written
    assert probe(features, "label", tmp_path / "other", CONFIG, quiet=True).summary == first.summary
    with pytest.raises(StoreError, match=r"made with other settings .*folds 5 there, 4 now"):
        probe(features, "label", out, CONFIG.model_copy(update={"folds": 4}), quiet=True)


def test_what_is_shown(make_features: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = probe(make_features(signal(), colours(), CLASSES), "label", tmp_path / "out", CONFIG, quiet=True)
    written = json.loads((done.path / "summary.json").read_text())
    written["results"]["features"]["linear"]["macro_auroc"]["value"] = None
    done = Result(done.path, ProbeSummary.model_validate(written))
    print_probe(done)
    shown = capsys.readouterr().out
    for text in (
        "features",
        "untrained encoder",
        "colour histogram",
        "20-NN",
        "linear",
        "chance 0.333",
        "stain",
        "4-shot",
        "–",
    ):
        assert text in shown


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("grade", r"no such column or file — name a CSV file, or one of: label, slide_id$"),
        ("patient_id", "no tile has a patient_id"),
        ("slide_id", "all 180 labelled tiles are of the class folder"),
        ("tile,label\nt0,a", r"lacks a column tile_id or slide_id \(there are: tile, label\)"),
        ("tile_id,class\nt0,a", r"lacks the column label"),
        (
            "tile_id,label\nx0,a\nx1,b",
            r"column tile_id names no tile .* \(such as x0\) — theirs .* t0",
        ),
        ("tile_id,label\nt0,a\nt0,b", "two rows have tile_id t0"),
        ("tile_id,label\nt0,a\nt1,a\nt2", "all 2 labelled tiles are of the class a"),
        ("tile_id,label\nt0,a\nt1,b", r"class a comes from 1 group .*too few for 5 folds"),
        ("tile_id,label\nt0,\n", "no labels"),
        ("tile_id,label\nt0,a\n ,b", "row 2 has no tile_id"),
        ("tile_id,label\nt0,\udc81\n", "cannot be read as CSV"),
        ("tile_id,label\nt0,\x00\n", "contains binary data"),
        (
            "tile_id,label\nt0,Tumor\nt1,tumor \n",
            "only in case, blanks or .*: .Tumor. and .tumor.",
        ),
        ("tile_id,label\nt0,a,b\n", "row 1 has 3 fields, the header has 2"),
        ("tile_id,label,Label\nt0,a,b\n", "has two columns label"),
    ],
)
def test_bad_labels(make_features: Maker, tmp_path: Path, labels: str, message: str) -> None:
    features = make_features(signal(), colours(), CLASSES)
    if "," in labels:
        (tmp_path / "l.csv").write_bytes(labels.encode(errors="surrogateescape"))
        labels = str(tmp_path / "l.csv")
    with pytest.raises(ConfigError, match=message):
        probe(features, labels, tmp_path / "out", CONFIG, quiet=True)
    assert not (tmp_path / "out").exists()


def test_bad_features(make_features: Maker, tmp_path: Path) -> None:
    values = signal()
    values[[3, 5], 0] = np.nan, np.inf
    with pytest.raises(StoreError, match="features of 2 tiles are not finite, first of t3"):
        probe(make_features(values, colours(), CLASSES), "label", tmp_path / "out", CONFIG)
    twice = np.array([f"t{max(i, 1)}" for i in range(180)])
    features = make_features(signal(), colours(), CLASSES, tile_ids=twice, name="twice")
    with pytest.raises(StoreError, match="has tile t1 twice"):
        probe(features, "label", tmp_path / "out", CONFIG)


def test_features_that_cannot_be_fitted_give_no_warning(make_features: Maker, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe(
            make_features(np.zeros((180, 4)), np.ones((180, 4)) + colours()[:, :4], CLASSES),
            "label",
            tmp_path / "out",
            CONFIG,
            quiet=True,
        )


def test_features_of_other_tools_score_alike_and_come_without_a_gate(
    make_features: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slides = np.sort(patients())
    order = np.argsort(patients(), kind="stable")
    values, classes = signal()[order], CLASSES[order]
    (tmp_path / "foreign").mkdir()
    ids = []
    for slide in np.unique(slides):
        rows = np.flatnonzero(slides == slide)
        coords = np.stack([np.arange(len(rows)) * 256, np.zeros_like(rows)], axis=1)
        ids += [f"{slide}/{x}_0" for x in coords[:, 0]]
        with h5py.File(tmp_path / "foreign" / f"{slide}.h5", "w") as file:
            file["features"], file["coords"] = values[rows].astype(np.float32), coords
    csv = tmp_path / "labels.csv"
    csv.write_text("tile_id,label\n" + "".join(f"{i},{c}\n" for i, c in zip(ids, classes, strict=True)))
    result = probe(tmp_path / "foreign", str(csv), tmp_path / "out", CONFIG, quiet=True)
    own = make_features(values, colours(), classes, slides=slides, ready_made=False, tile_ids=np.array(ids))
    expected = probe(own, "label", tmp_path / "own", CONFIG, quiet=True).summary
    summary = result.summary
    assert summary.split == expected.split and summary.split.scheme == "slides"
    assert summary.results == {"features": expected.results["features"]}
    assert summary.gate.passed is None and summary.leak is None and summary.duplicates is None
    assert probe(tmp_path / "foreign", str(csv), tmp_path / "out", CONFIG, quiet=True).summary == summary
    print_probe(result)
    assert "The gate cannot be judged, since these features come without baselines" in capsys.readouterr().out
    with pytest.raises(ConfigError, match=r"groups stain: colours of the tiles are unknown"):
        stain = CONFIG.model_copy(update={"groups": "stain"})
        probe(tmp_path / "foreign", str(csv), tmp_path / "stain", stain, quiet=True)
