"""The example packages, installed as pip installs them, and used by dirl under their names."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dirl.store.dataset import TileStore

PLUGINS = Path(__file__).parents[2] / "examples" / "plugins"
RUN = "import sys; from dirl.__main__ import main; main()"
TINY = ["steps=2", "batch=4", "checkpoint_every_steps=1", "views.size_px=32", "encoder.patch_px=8"]
TINY += ["encoder.width=32", "encoder.depth=2", "encoder.heads=2", "holdout=0.2"]
TINY += [
    "dense.negatives=tiles",
    "objective.name=barlow",
    "objective.hidden_width=16",
    "objective.output_width=8",
]


@pytest.fixture(scope="module")
def dirl(tmp_path_factory):
    """Run ``dirl`` where the four packages are installed, and return what it prints."""
    folder = tmp_path_factory.mktemp("plugins")
    sources = shutil.copytree(PLUGINS, folder / "sources")  # a build leaves files behind
    packages = [str(path.parent) for path in sorted(sources.glob("*/pyproject.toml"))]
    assert len(packages) == 4
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    pip += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(folder / "installed")]
    subprocess.run([*pip, *packages], check=True, timeout=600)
    paths = [str(folder / "installed"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(*words):
        done = subprocess.run(
            [sys.executable, "-c", RUN, *map(str, words)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_each_is_listed_under_its_name(dirl):
    found = dirl("doctor").split()
    assert {"blobs", "barlow", "tiny", "centroid"} <= {word.strip(",") for word in found}
    assert "tiny" in dirl("encoders")


def test_the_segmenter_and_the_encoder(dirl, small_store, tmp_path):
    store = shutil.copytree(small_store, tmp_path / "store")
    dirl("cells", store, "--segmenter", "blobs,contrast=10", "--quiet")
    counts = json.loads((store / "cells" / "blobs" / "card.json").read_text())["counts"]
    assert counts["nuclei"] > 50
    words = ("audit", "tiny,weights=random", "--store", store, "--cells", "blobs", "--tiles", 8)
    assert "report.html" in dirl(*words, "--out", tmp_path / "audit", "--quiet")


def test_the_objective_trains_with_the_dense_term(dirl, small_store, tmp_path):
    settings = [word for one in TINY for word in ("--set", one)]
    dirl("pretrain", "demo", "--store", small_store, "--out", tmp_path / "run", "--device", "cpu", *settings)
    header = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[0]
    assert {"loss/global", "loss/dense"} <= set(header.split(","))


def test_the_evaluator_is_scored_beside_the_linear_probe(dirl, small_store, tmp_path):
    dirl("embed", "tiny,weights=random", "--store", small_store, "--out", tmp_path / "features", "--quiet")
    ids = TileStore.open(small_store).tile_ids.tolist()
    rows = [f"{name},{'ab'[i % 2]},{i // 4}" for i, name in enumerate(ids)]
    (tmp_path / "labels.csv").write_text("\n".join(["tile_id,label,group", *rows]))
    out = tmp_path / "probe"
    words = ("probe", tmp_path / "features", "--labels", tmp_path / "labels.csv", "--out", out, "--quiet")
    assert "centroid" in dirl(*words, "--folds", 2, "--evaluator", "centroid")
    results = json.loads((out / "summary.json").read_text())["results"]
    assert all(0 <= one["centroid"]["balanced_accuracy"]["value"] <= 1 for one in results.values())
