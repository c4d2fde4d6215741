"""The arms of the evidence's second part: what they are, and the script that trains them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dirl.config import PretrainRecipe
from dirl.core.results import read_as
from dirl.study.matrix import expand, load_study
from dirl.study.summary import StudySummary

ROOT = Path(__file__).parents[2]
ARMS = ROOT / "studies" / "arms.yaml"


def test_each_arm_is_what_the_design_says() -> None:
    runs = {run.arm: run for run in expand(load_study(ARMS))}
    assert {arm: run.kind for arm, run in runs.items()} == {
        "start": "start", "vanilla": "vanilla", "tissue": "dirl", "cells": "dirl", "half-heads": "dirl",
        "colour": "control", "matched-grid": "control", "entropy": "control",
    }  # fmt: skip
    tissue = runs["tissue"].recipe
    for arm in ("cells", "half-heads", "colour", "matched-grid"):
        assert runs[arm].recipe.model_copy(update={"dense": tissue.dense}) == tissue, arm
    assert runs["entropy"].recipe.dense.weight == 0 and runs["entropy"].recipe.entropy.of == "joint"


def test_every_arm_of_the_page_is_a_recipe() -> None:
    page = (ROOT / "docs" / "howto" / "study.md").read_text()
    arms = [yaml.safe_load(line.split("`")[1]) for line in page.splitlines() if line.startswith("| `{")]
    assert len(arms) == 10
    study = load_study(ARMS).model_copy(
        update={"arms": dict(zip("abcdefghij", arms, strict=True)), "contrasts": ()}
    )
    kinds = [run.kind for run in expand(study) if run.seed == 100][1:]
    assert kinds == ["vanilla", *["control"] * 4, *["dirl"] * 5]


@pytest.mark.slow
def test_the_script_trains_all_arms_and_writes_the_table(
    small_store: Path, recipe: PretrainRecipe, tmp_path: Path
) -> None:
    study = yaml.safe_load(ARMS.read_text())
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json", exclude={"seed"})))
    study |= {
        "recipe": "small.yaml",
        "seeds": [100],
        "audit": {"tiles": 8, "bootstrap": 20, "figures": 0},
    }
    study["set"] = {"steps": 4, "dense": study["set"]["dense"]}
    study["start"] |= {"steps": 6}
    del study["probe"], study["tokens"], study["primary"]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    out = tmp_path / "out"
    command = [
        str(ROOT / "benchmarks" / "gpu_arms.sh"),
        str(small_store),
        str(out),
        str(tmp_path / "study.yaml"),
    ]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": path, "PARALLEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    stopped = subprocess.run(
        command, env=environment | {"MINUTES": "0.01"}, capture_output=True, text=True, timeout=300
    )
    assert stopped.returncode == 124, stopped.stderr
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith((out / "table.md").read_text())
    summary = read_as(out, StudySummary).summary
    assert not summary.failed and len(list((out / "results").rglob("*.json"))) == 8
    assert all(arm in done.stdout for arm in study["arms"])
