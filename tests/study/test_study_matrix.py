"""A study expands into the runs that it names, and an unsound one is refused before anything runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from dirl.config import load_recipe
from dirl.core.errors import ConfigError
from dirl.objectives.base import load_objective
from dirl.pretrain.plan import check_recipe
from dirl.study.matrix import StudyConfig, expand, load_study
from tests.known import known

STUDIES = Path(__file__).parents[2] / "studies"
RECIPES = {STUDIES / "base.yaml", STUDIES / "second.yaml"}
EVIDENCE = sorted({*STUDIES.glob("*.yaml")} - RECIPES)
TEXT = """
recipe: demo
set: {steps: 40, views.size_px: 48}
objectives:
  simclr:
  byol: {objective: {name: byol, hidden_width: 64}}
arms:
  vanilla: {dense.weight: 0}
  pool:
  grid: {dense.control: grid, steps: 50}
seeds: 2
contrasts: [[pool, vanilla], [pool, grid]]
"""


@pytest.fixture
def load(tmp_path: Path):
    def written(text: str = TEXT, old: str = "", new: str = "") -> StudyConfig:
        assert old in text
        (tmp_path / "study.yaml").write_text(text.replace(old, new) if old else text)
        return load_study(tmp_path / "study.yaml")

    return written


def test_every_objective_arm_and_seed_once_the_first_seed_first(load) -> None:
    runs = expand(load())
    assert [run.name for run in runs] == [
        f"{objective}/{arm}/seed-{seed}"
        for seed in (0, 1)
        for objective in ("simclr", "byol")
        for arm in ("vanilla", "pool", "grid")
    ]
    assert [run.kind for run in runs[:3]] == ["vanilla", "dirl", "control"]


def test_the_arm_is_laid_over_the_objective_over_the_common_settings_over_the_recipe(load) -> None:
    runs = {run.name: run.recipe for run in expand(load())}
    base = load_recipe("demo", ["steps=40", "views.size_px=48"])
    assert runs["simclr/pool/seed-0"] == base
    assert runs["simclr/pool/seed-1"].seed == 1
    assert runs["simclr/grid/seed-0"].steps == 50 and runs["byol/vanilla/seed-0"].steps == 40
    # A mapping replaces its section: nothing of SimCLR's settings is left in BYOL's.
    assert runs["byol/pool/seed-0"].objective.options == {"hidden_width": 64}
    # One key apart.
    vanilla = runs["simclr/vanilla/seed-0"]
    assert vanilla.model_copy(update={"dense": base.dense}) == base and vanilla.dense.weight == 0


def test_all_arms_of_a_seed_begin_with_one_start(load) -> None:
    text = "seeds: 2\nstart: {steps: 9, dense.weight: 0}"
    study = load(old="seeds: 2", new=text)
    runs = expand(study)
    starts, arms = [*runs[:2], *runs[8:10]], [*runs[2:8], *runs[10:]]
    assert [run.name for run in starts] == [f"{o}/start/seed-{s}" for s in (0, 1) for o in ("simclr", "byol")]
    assert {run.kind for run in starts} == {"start"} and study.all_arms[0] == "start"
    assert {run.recipe.steps for run in starts} == {9} and not any(run.recipe.dense.weight for run in starts)
    assert [replace(run, start=None) for run in arms] == list(expand(load()))
    assert all(
        (known(run.start).objective, known(run.start).seed) == (run.objective, run.seed) for run in arms
    )


def test_small_numbers_stay_numbers(load) -> None:
    study = load(old="steps: 40", new="steps: 40, optimiser.min_lr: 1.0e-7, objective.temperature: 1.0e-5")
    recipe = expand(study)[0].recipe
    assert recipe.optimiser.min_lr == 1e-7 and recipe.objective.options["temperature"] == 1e-5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[pool, grid]", "[pool, gird]", r"no arm gird \(there are: vanilla, pool, grid\)"),
        ("[pool, grid]", "[vanilla, pool]", "vanilla against pool is given twice"),
        ("[pool, grid]", "[pool, pool]", "against itself"),
        ("seeds: 2", "seeds: [3, 3]", "one is given twice"),
        ("seeds: 2", "seeds: 0", "seeds"),
        ("steps: 40", "seed: 40", "seed of a run is set by seeds"),
        ("pool:\n", "pool:\n  pool: {steps: 3}\n", "pool stands twice in one section"),
        ("pool:\n", "a/b:\n", "should match pattern"),
        ("contrasts", "contrast", "unknown key contrast "),
        ("seeds: 2", "seeds: 2\nprobe: {tiles: 3}", "probe.labels"),
        ("seeds: 2", "seeds: 2\naudit: {tile: 3}", "unknown key audit.tile "),
        ("seeds: 2", "seeds: 2\nprobe: {labels: label, tile: 3}", r"unknown key probe\.tile .*tiles, tokens"),
        ("seeds: 2", "seeds: 2\nprobe: {labels: label, neighbours: []}", r"probe\.neighbours: .*at least 1"),
        ("pool:\n", "start:\n", "is what all arms begin with"),
        ("[pool, grid]", "[pool, start]", "no arm start"),
        ("seeds: 2", "seeds: 2\nstart: {encoder.init: run}", "arms begin with its encoder"),
        ("seeds: 2", "seeds: 2\nrobust: {tiles: 9}", "labels from probe"),
        ("seeds: 2", "seeds: 2\ntokens: {cells: truth}", r"tokens\.store"),
        ("seeds: 2", "seeds: 2\ntokens: {store: s, masks: m}", "scores tokens on nuclei"),
    ],
)
def test_what_cannot_be_meant_is_refused(load, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(old=old, new=new)


def test_a_recipe_that_is_wrong_names_its_run(load) -> None:
    with pytest.raises(ConfigError, match=r"simclr/grid of the study: unknown key dense\.controll"):
        expand(load(old="dense.control", new="dense.controll"))


def test_two_arms_that_are_one_are_refused(load) -> None:
    with pytest.raises(ConfigError, match="simclr/grid and simclr/pool are the same recipe"):
        expand(load(old="{dense.control: grid, steps: 50}", new="{steps: 40}"))


def test_vanilla_arms_that_differ_in_the_dense_term_alone_are_refused(load) -> None:
    with pytest.raises(ConfigError, match="simclr/plain and simclr/vanilla are the same recipe"):
        expand(load(old="  pool:\n", new="  pool:\n  plain: {dense: {weight: 0, extract: pool}}\n"))


def test_damaged_cells_are_neither_dirl_nor_a_control(load) -> None:
    noisy = "  pool:\n  noisy: {dense.noise: {kind: drop, strength: 0.5}}\n"
    assert {run.arm: run.kind for run in expand(load(old="  pool:\n", new=noisy))} == {
        "vanilla": "vanilla", "pool": "dirl", "noisy": "noise", "grid": "control",
    }  # fmt: skip


def test_labels_beside_the_study_are_found(load, tmp_path: Path) -> None:
    (tmp_path / "mine.csv").touch()
    (tmp_path / "label").touch()
    found = [
        load(old="seeds: 2", new=f"seeds: 2\nprobe: {{labels: {name}}}").probe
        for name in ("mine.csv", "label", "there.csv")
    ]
    assert [probe and probe.labels for probe in found] == [str(tmp_path / "mine.csv"), "label", "there.csv"]


def test_a_store_beside_the_study_is_found(load, tmp_path: Path) -> None:
    (tmp_path / "scored").mkdir()
    probe = load(old="seeds: 2", new="seeds: 2\nprobe: {labels: label, store: scored}").probe
    assert probe and probe.store == str(tmp_path / "scored")


def test_a_recipe_beside_the_study_is_found(load, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("steps: 7")
    study = load(old="recipe: demo\nset: {steps: 40, views.size_px: 48}", new="recipe: mine.yaml")
    assert expand(study)[0].recipe.steps == 7


def test_an_unknown_study_lists_those_that_ship() -> None:
    with pytest.raises(ConfigError, match="one of: controls-cpu, noise-cpu, objectives-cpu"):
        load_study("nothing")


@pytest.mark.parametrize("name", ["objectives-cpu", "controls-cpu", "noise-cpu"])
def test_those_that_ship_are_sound(name: str) -> None:
    study = load_study(name)
    for run in expand(study):
        kind, _ = load_objective(run.recipe.objective)
        check_recipe(run.recipe, kind, ranks=1)
    assert study.contrasts


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda path: path.stem)
def test_those_of_the_evidence_are_sound(path: Path) -> None:
    for run in expand(load_study(path)):
        kind, _ = load_objective(run.recipe.objective)
        check_recipe(run.recipe, kind, ranks=1)


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("primary: [linear]", "primary: name entropy_joint, and each measure once"),
        ("primary: [entropy_joint, knnn]", "primary: no measure knnn .there are: entropy_joint"),
        ("margins: {gini: 0.1}", "margins: gini is no measure that can be lost .these are: .*knn"),
        ("margins: {knn: 0}", "margins.*greater than 0"),
        ("margins: {knn: 0.0%}", "margins.*knn"),
        ("margins: {knn: half}", "margins.*knn"),
        ("gate: starts", "gate: starts needs a start, which is not set"),
    ],
)
def test_statistics_that_make_no_sense_are_refused(load, added: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load(TEXT + added)
