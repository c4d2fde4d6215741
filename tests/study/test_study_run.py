"""The stage: resumes run by run, goes on past a failure, and gives rows that the stages' own files hold."""

import json
import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dirl.audit.summary import AuditSummary
from dirl.cells.run import cells
from dirl.cli.main import app
from dirl.config import AuditConfig, RobustConfig, TileConfig
from dirl.core.card import finish, new_card
from dirl.core.claim import claim
from dirl.core.errors import ConfigError, Interrupted, PartlyFailedError, StoreError, TrainingError
from dirl.core.journal import note_written
from dirl.core.layout import NOT_CONTENT
from dirl.core.results import Result, read_as
from dirl.pretrain.read_run import Run
from dirl.store.build import tile
from dirl.store.dataset import TileStore
from dirl.study import run_arm
from dirl.study.matrix import StudyConfig, StudyProbe, StudyTokens
from dirl.study.run import study
from dirl.study.run_arm import Job
from dirl.study.summary import StudySummary
from dirl.synthetic import draw
from tests.audit_cases import encoder, findings, summary
from tests.known import known

CHANGES = {
    "steps": 6, "batch": 8, "checkpoint_every_steps": 2, "log_every_steps": 1, "views": {"size_px": 32},
    "encoder": {"name": "vit_tiny_patch16_224", "patch_px": 8, "width": 32, "depth": 2, "heads": 2},
    "objective": {"name": "simclr", "hidden_width": 16, "output_width": 8},
}  # fmt: skip


@pytest.fixture
def tiny() -> StudyConfig:
    return StudyConfig(
        recipe="demo",
        set=CHANGES,
        objectives={"simclr": {}},
        arms={"vanilla": {"dense.weight": 0}, "pool": {}},
        seeds=(0, 1),
        contrasts=(("pool", "vanilla"),),
        audit=AuditConfig(tiles=8, bootstrap=20, figures=0),
    )


def audited(entropy: float | None = 0.5) -> AuditSummary:
    """A summary such as an audit of one run has."""
    return summary(findings(encoder("seed-0", entropy)))


@pytest.fixture
def stages(monkeypatch):
    """Training and auditing that take no time; ``broken`` names what fails, ``done`` what was asked for."""

    class Stages:
        def __init__(self) -> None:
            self.done: list[str] = []
            self.broken: dict[str, BaseException] = {}
            self.cells: list[str] = []

        def pretrain(self, recipe, store, out, **options) -> Run:
            assert options["devices"] == 1
            name = "/".join(out.parts[-3:])
            self.done.append(name)
            if name in self.broken:
                raise self.broken[name]
            card = claim(out, new_card("pretrain", {}))
            (out / "last.ckpt").touch()
            note_written(out / "last.ckpt")
            finish(out, card, {})
            return Run(out, recipe.steps, True, {"loss": 1.0, "embedding/std": 0.9})

        def audit(self, encoders, store, out, config, **options) -> Result[AuditSummary]:
            self.cells.append(config.cells)
            return Result(out, audited())

    fake = Stages()
    monkeypatch.setattr(run_arm, "pretrain", fake.pretrain)
    monkeypatch.setattr(run_arm, "audit", fake.audit)
    monkeypatch.setattr(run_arm, "attention_units", lambda folder: {})
    return fake


NAMES = [f"simclr/{arm}/seed-{seed}" for seed in (0, 1) for arm in ("vanilla", "pool")]


def test_every_run_once_and_never_again(tiny, small_store: Path, tmp_path: Path, stages) -> None:
    out = tmp_path / "study"
    done = study(tiny, small_store, out, device="cpu", quiet=True)
    assert stages.done == NAMES
    assert not list(out.rglob("last.ckpt"))
    names = {"table.md", "table.csv", "summary.json", "figures", "results", "runs", "card.json"}
    assert {path.name for path in out.iterdir()} - NOT_CONTENT == names
    assert json.loads((out / "results" / f"{NAMES[1]}.json").read_text())["arm"] == "pool"
    again = study(tiny, small_store, out, device="cpu", quiet=True)
    assert stages.done == NAMES and again.summary == done.summary == read_as(out, StudySummary).summary


def test_a_finished_study_makes_again_what_was_removed(
    tiny, small_store: Path, tmp_path: Path, stages
) -> None:
    out = tmp_path / "study"
    done = study(tiny, small_store, out, device="cpu", quiet=True)
    stages.done = []
    for name in (f"results/{NAMES[1]}.json", "table.md"):
        (out / name).unlink()
    again = study(tiny, small_store, out, device="cpu", quiet=True).summary
    assert stages.done == [NAMES[1]] and (out / "table.md").exists()
    assert again.contrasts == done.summary.contrasts


def test_the_cells_of_the_recipe_are_audited(tiny, small_store: Path, tmp_path: Path, stages) -> None:
    store = tmp_path / "store"
    shutil.copytree(small_store, store)
    (store / "cells" / "hematoxylin").rename(store / "cells" / "mine")
    with pytest.raises(StoreError, match=r"no cells of hematoxylin.*`set: \{cells: mine\}` in a study"):
        study(tiny, store, tmp_path / "study", device="cpu", quiet=True)
    changed = tiny.model_copy(update={"set": CHANGES | {"cells": "mine"}})
    study(changed, store, tmp_path / "study", device="cpu", quiet=True)
    assert stages.cells == ["mine"] * len(NAMES)
    other = changed.model_copy(update={"audit": AuditConfig(cells="other")})
    with pytest.raises(StoreError, match="no cells of other"):
        study(other, store, tmp_path / "other", device="cpu", quiet=True)


def test_a_failure_is_recorded_the_others_go_on_and_it_is_tried_again(
    tiny, small_store: Path, tmp_path: Path, stages
) -> None:
    out = tmp_path / "study"
    stages.broken = {
        NAMES[0]: TrainingError("the loss is nan", where="run"),
        NAMES[2]: RuntimeError("two\nlines"),
    }
    with pytest.raises(PartlyFailedError, match="2 failed, 2 done") as caught:
        study(tiny, small_store, out, device="cpu", quiet=True)
    assert caught.value.exit_code == 1 and stages.done == NAMES
    assert f"{NAMES[2]}: unexpected RuntimeError: two lines" in str(caught.value)
    assert "run: the loss is nan" in (out / "table.md").read_text()
    stages.done, stages.broken = [], {}
    assert study(tiny, small_store, out, device="cpu", quiet=True).summary.failed == {}
    assert stages.done == [NAMES[0], NAMES[2]]


def test_arms_go_on_from_the_start_of_their_seed(
    tiny, small_store: Path, tmp_path: Path, stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, begun = tmp_path / "study", {}
    pretrain = stages.pretrain

    def noted(recipe, store, path, **options) -> Run:
        begun["/".join(path.parts[-3:])] = recipe.encoder.init
        return pretrain(recipe, store, path, **options)

    monkeypatch.setattr(run_arm, "pretrain", noted)
    starts = [f"simclr/start/seed-{seed}" for seed in (0, 1)]
    stages.broken = {starts[1]: TrainingError("the loss is nan", where="run")}
    with_start = tiny.model_copy(update={"start": {"dense.weight": 0}, "contrasts": (("pool", "start"),)})
    with pytest.raises(PartlyFailedError, match="3 failed, 3 done") as caught:
        study(with_start, small_store, out, device="cpu", quiet=True)
    assert "simclr/start/seed-1, which it begins with, failed" in str(caught.value)
    assert stages.done == [starts[0], *NAMES[:2], starts[1]]
    assert begun == dict.fromkeys(starts) | dict.fromkeys(NAMES[:2], str(out / "runs" / starts[0]))
    stages.done, stages.broken = [], {}
    found = study(with_start, small_store, out, device="cpu", quiet=True).summary
    assert stages.done == [starts[1], *NAMES[2:]]
    assert begun[NAMES[3]] == str(out / "runs" / starts[1])
    assert [arm.kind for arm in found.arms] == ["start", "vanilla", "dirl"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted(15)])
def test_a_signal_stops_the_study_and_the_same_call_goes_on(
    tiny, small_store: Path, tmp_path: Path, stages, stop: BaseException
) -> None:
    stages.broken = {NAMES[1]: stop}
    with pytest.raises(type(stop)):
        study(tiny, small_store, tmp_path / "study", device="cpu", quiet=True)
    assert stages.done == NAMES[:2]
    # One run was done, and the table shows it.
    assert [arm.runs for arm in read_as(tmp_path / "study", StudySummary).summary.arms] == [1, 0]
    stages.done, stages.broken = [], {}
    study(tiny, small_store, tmp_path / "study", device="cpu", quiet=True)
    assert stages.done == NAMES[1:]


def test_another_study_is_refused(tiny, small_store: Path, tmp_path: Path, stages) -> None:
    study(tiny, small_store, tmp_path / "study", device="cpu", quiet=True)
    more = tiny.model_copy(update={"seeds": (0, 1, 2)})
    with pytest.raises(StoreError, match="made with other settings"):
        study(more, small_store, tmp_path / "study", device="cpu", quiet=True)


def test_settings_that_an_objective_lacks_are_refused_before_anything_is_made(
    tiny, small_store: Path, tmp_path: Path
) -> None:
    bad = tiny.model_copy(update={"arms": {"vanilla": {"objective.nonsense": 1}}, "contrasts": ()})
    with pytest.raises(ConfigError, match="nonsense"):
        study(bad, small_store, tmp_path / "study", device="cpu", quiet=True)
    assert not (tmp_path / "study").exists()


def refused(config: StudyConfig, store: Path, out: Path, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        study(config, store, out, device="cpu", quiet=True)
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch": 7, "optimiser.accumulate": 2}, ConfigError, "simclr/odd of the study: batch: "),
        ({"dense.regions": "grid", "dense.control": "moved"}, ConfigError, "simclr/odd .*regions: grid"),
        ({"dense.regions": "classes"}, StoreError, "names no classes"),
        ({"cells": "nobody"}, StoreError, "no cells of nobody"),
    ],
)
def test_what_a_run_would_be_refused_for_is_refused_before_the_first(
    tiny, small_store: Path, tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    bad = tiny.model_copy(update={"arms": {**tiny.arms, "odd": changes}})
    refused(bad, small_store, tmp_path / "study", error, message)


def labelled(tiny: StudyConfig, store: Path, path: Path, names: str) -> StudyConfig:
    ids = TileStore.open(store).tile_ids
    rows = "".join(f"{tile},{names[i % len(names)]},{i % 12}\n" for i, tile in enumerate(ids))
    path.write_text(f"tile_id,label,group\n{rows}")
    return tiny.model_copy(update={"probe": StudyProbe(labels=str(path), folds=2)})


def test_labels_are_checked_before_the_first_run(tiny, small_store: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    one_class = labelled(tiny, small_store, tmp_path / "labels.csv", "a")
    refused(
        one_class, small_store, out, ConfigError, "of the study .*all 41 labelled tiles are of the class a"
    )
    folds = labelled(tiny, small_store, tmp_path / "two.csv", "ab")
    for name, config in (("probe", StudyProbe), ("robust", RobustConfig)):
        given = {"labels": known(folds.probe).labels} if name == "probe" else {}
        many = folds.model_copy(update={name: config(**given, folds=30)})
        refused(many, small_store, out, ConfigError, "of the study .*30 folds")
    column = tiny.model_copy(update={"probe": StudyProbe(labels="patient_id")})
    refused(column, small_store, out, ConfigError, "no tile has a patient_id")


def test_other_labels_in_the_same_file_are_another_study(
    tiny, small_store: Path, tmp_path: Path, stages, monkeypatch
) -> None:
    monkeypatch.setattr(run_arm, "_probe", lambda *_: None)
    monkeypatch.chdir(tmp_path)
    for spelled in (tmp_path / "labels.csv", Path("labels.csv")):
        mine = labelled(tiny, small_store, spelled, "ab")
        study(mine, small_store, tmp_path / "study", device="cpu", quiet=True)
    assert stages.done == NAMES
    with pytest.raises(StoreError, match="labels is another"):
        other = labelled(tiny, small_store, tmp_path / "labels.csv", "aab")
        study(other, small_store, tmp_path / "study", device="cpu", quiet=True)


def test_folders_are_named_alike_however_the_study_is_spelled(
    tiny, small_store: Path, tmp_path: Path, stages, monkeypatch
) -> None:
    seen: list[Path] = []

    def failing(job: Job) -> NoReturn:
        seen.append(job.out)
        raise RuntimeError("no")

    monkeypatch.setattr(run_arm, "run_job", failing)

    monkeypatch.chdir(tmp_path)
    for spelled in (Path("study"), tmp_path / "study"):
        with pytest.raises(PartlyFailedError):
            study(tiny, small_store, spelled, device="cpu", quiet=True)
    assert set(seen) == {(tmp_path / "study").resolve()}
    kept = json.loads((tmp_path / "study" / "results" / f"{NAMES[0]}.json").read_text())
    assert kept["failed"] == f"{NAMES[0]}: unexpected RuntimeError: no" and "failing" in kept["traceback"][0]


def test_a_run_without_an_entropy_is_told_as_such(
    tiny, small_store: Path, tmp_path: Path, stages, monkeypatch, caplog
) -> None:
    caplog.set_level("INFO", logger="dirl")
    nothing = audited(entropy=None)
    monkeypatch.setattr(run_arm, "audit", lambda encoders, store, out, *_, **__: Result(out, nothing))
    study(tiny, small_store, tmp_path / "study", device="cpu")
    assert f"4/4 {NAMES[3]}: entropy –" in caplog.text


def test_the_command_prints_the_table_even_if_a_run_failed(
    tiny, small_store: Path, tmp_path: Path, stages, monkeypatch
) -> None:
    (tmp_path / "study.yaml").write_text(json.dumps(tiny.model_dump(mode="json")))
    stages.broken = {NAMES[0]: TrainingError("the loss is nan", where="run")}
    arguments = ["study", str(tmp_path / "study.yaml"), "--store", str(small_store), "--out"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "out"), "--device", "cpu", "--quiet"])
    assert result.exit_code == 1
    assert "pool" in result.output and "Table: " in result.output and "1 failed, 3 done" in result.output


def test_real_runs_give_the_numbers_of_their_own_stages(tiny, small_store: Path, tmp_path: Path) -> None:
    rgb = draw(3, (512, 512)).rgb
    for k in range(24):  # scored on other tiles than those that are trained on
        y, x = 64 * (1 + k // 6), 64 * (1 + k % 6)
        file = tmp_path / "others" / "ab"[k % 2] / f"{k}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb[y : y + 64, x : x + 64]).save(file)
    others = tmp_path / "scored"
    tile([tmp_path / "others"], others, TileConfig(size_px=64, mpp_override=0.5), quiet=True)
    ids = TileStore.open(others).tile_ids
    rows = [f"{tile},{'ab'[i // 12]},{i % 2}\n" for i, tile in enumerate(ids)]
    (tmp_path / "labels.csv").write_text("".join(["tile_id,label,fold\n", *rows]))
    labels = str(tmp_path / "labels.csv")
    probe = StudyProbe(labels=labels, store=str(others), tokens=True, folds=2, groups="given", bootstrap=20)
    damage = RobustConfig(
        damage=("stain", "rotation"), severities=(1, 3), folds=2, groups="given", bootstrap=20
    )
    real = tiny.model_copy(
        update={
            "seeds": (0,),
            "arms": {"pool": {}},
            "start": {"steps": 2},
            "contrasts": (),
            "probe": probe,
            "robust": damage,
            "tokens": StudyTokens(store=str(others), folds=2, bootstrap=20),
        }
    )
    cells(others, quiet=True)
    out = tmp_path / "study"
    found = study(real, small_store, out, device="cpu", quiet=True).summary
    for run in found.runs:
        audited = json.loads((out / "audits" / run.run / "summary.json").read_text())
        scored = json.loads((out / "probes" / run.run / "summary.json").read_text())
        assert (
            run.measures["entropy_joint"] == audited["encoders"][0]["last_block"]["joint"]["entropy"]["value"]
        )
        units = json.loads((out / "results" / f"{run.run}.json").read_text())["units"]
        for name in ("entropy_joint", "knn", "linear"):  # the sums by unit give the measures again
            above, below = np.array(list(units[name].values())).sum(axis=0)
            assert np.mean(above / below) == pytest.approx(run.measures[name], rel=1e-5)
        untrained = scored["results"]["untrained"]["linear"]["balanced_accuracy"]["value"]
        assert run.measures["linear_untrained"] == untrained
        few = scored["results"]["features"]["few_shot"]["4"]["value"]
        assert run.measures["few_shot"] == few
        tokens = json.loads((out / "token-probes" / run.run / "summary.json").read_text())
        score = tokens["results"]["features"]["linear"]["balanced_accuracy"]["value"]
        assert run.measures["linear_tokens"] == score and known(run.measures["knn_tokens"]) > 0
        assert tokens["split"] == scored["split"]
        assert tokens["encoder_digest"] == scored["encoder_digest"]
        of_tokens = json.loads((out / "tokens" / run.run / "summary.json").read_text())["results"]
        assert run.measures["token_nuclei"] == of_tokens["features"]["areas"]["nuclei"]["auroc"]["value"]
        assert "token_types" not in run.measures  # the segmenter names no classes
        damaged = json.loads((out / "robust" / run.run / "summary.json").read_text())
        moved = damaged["results"]["features"]["conditions"]
        both = [moved[f"stain-{severity}"]["drift_share"]["value"] for severity in (1, 3)]
        assert run.measures["drift_stain"] == pytest.approx(sum(both) / 2)
        assert damaged["tiles"] == 24 and 0 < known(run.measures["drift_rotation"]) < 2
        assert known(run.measures["embedding_rank"]) > 0 and known(run.measures["seconds"]) > 0
        assert known(run.gate).label_free == audited["gates"]["seed-0"]["passed"]
    start, pool = found.runs
    assert known(start.measures["token_nuclei_colour"]) > 0.5  # scored once, since they are the same for all
    assert "token_nuclei_colour" not in pool.measures
    card = json.loads((out / "features" / "simclr" / "pool" / "seed-0" / "card.json").read_text())
    begun = json.loads((out / "runs" / "simclr" / "pool" / "seed-0" / "init.json").read_text())
    assert begun["loaded"] and not begun["missing"] + begun["unexpected"] + begun["resampled"]
    assert card["counts"]["tiles"] == 24 and card["inputs"]["store"] == TileStore.open(others).digest
    with pytest.raises(StoreError, match="scored-not"):
        lost = real.model_copy(
            update={"probe": probe.model_copy(update={"store": str(tmp_path / "scored-not")})}
        )
        study(lost, small_store, tmp_path / "lost", device="cpu", quiet=True)
    assert not list(out.rglob("last.ckpt"))
    assert (out / "figures" / "curves.svg").stat().st_size > 0
