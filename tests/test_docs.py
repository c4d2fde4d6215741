"""What the documents print is true: commands parse, scripts run, the worked example trains."""

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import typer
import yaml
from PIL import Image

from dirl.cli.main import app
from dirl.config import TileConfig, load_recipe, make
from dirl.objectives.registry import load_objective
from dirl.pretrain.run import pretrain
from dirl.store.build import tile
from dirl.study.matrix import StudyConfig, expand

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
HOWTO = ROOT / "docs" / "howto"
RECIPES = [path.stem for path in (ROOT / "src/dirl/recipes").glob("*.yaml")]
FENCE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(path, language=""):
    return [text for kind, text in FENCE.findall(path.read_text(encoding="utf-8")) if kind == language]


def commands():
    lines = [line for path in DOCUMENTS for block in blocks(path) for line in block.splitlines()]
    template = (HOWTO / "slurm.sbatch").read_text().replace("\\\n", " ").replace("srun ", "")
    template = re.sub(r'"\$SLURM\w+"', "2", template)
    recipes = [path.read_text() for path in (ROOT / "src/dirl/recipes").glob("*.yaml")]
    headers = re.findall(r"# Command:  (dirl [^(\[\n]*)", "\n".join(recipes))
    # What the shell does where a command fails is none of its words.
    found = {line.partition("||")[0].strip() for line in [*lines, *template.splitlines(), *headers]}
    return sorted(line for line in found if line.startswith("dirl "))


@pytest.mark.parametrize("line", commands())
def test_a_command_parses(line):
    program = typer.main.get_command(app)
    words = shlex.split(line, comments=True)[1:]
    command = program.commands[words[0]]
    given = command.make_context(words[0], words[1:]).params
    if words[0] == "pretrain" and given["recipe"] in RECIPES and "my_package" not in line:
        load_objective(load_recipe(given["recipe"], given["set_"] or []).objective)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("document", ["study.md", "public-data.md"])
def test_a_study_is_sound(document):
    (text,) = blocks(HOWTO / document, "yaml")
    assert expand(make(StudyConfig, yaml.safe_load(text)))


def test_the_worked_objective_trains(small_store, recipe, tmp_path, monkeypatch):
    (text,) = blocks(ROOT / "docs" / "extending.md", "python")
    (tmp_path / "worked_example.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    objective = {"name": "worked_example:AlignUniform", "hidden_width": 16, "output_width": 8}
    chosen = make(type(recipe), recipe.model_dump() | {"objective": objective})
    run = pretrain(chosen, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert run.finished and {"loss/global", "loss/uniformity", "loss/dense"} <= set(run.metrics)


def test_pcam_becomes_tiles_and_a_split(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 4)):
        for part, data in (
            ("x", rng.integers(90, 200, (count, 96, 96, 3), np.uint8)),
            ("y", np.arange(count, dtype=np.uint8).reshape(-1, 1, 1, 1) % 2),
        ):
            with h5py.File(tmp_path / f"camelyonpatch_level_2_split_{split}_{part}.h5", "w") as handle:
                handle[part] = data
    run_script("pcam_tiles.py", tmp_path, tmp_path / "tiles")
    with h5py.File(tmp_path / "camelyonpatch_level_2_split_train_x.h5") as handle:
        third = np.asarray(Image.open(tmp_path / "tiles" / "train" / "normal" / "train_000002.png"))
        assert np.array_equal(third, handle["x"][2])

    folders = [tmp_path / "tiles" / "train", tmp_path / "tiles" / "test"]
    tile(folders, tmp_path / "both", TileConfig(mpp_override=0.972), quiet=True)
    run_script("split_csv.py", tmp_path / "both", "train", tmp_path / "labels.csv")
    rows = list(csv.DictReader((tmp_path / "labels.csv").read_text().splitlines()))
    assert {(row["tile_id"], row["label"], row["fold"]) for row in rows} == {
        (f"{split}_{label}/{split}_{i:06d}", label, split)
        for split, count in (("train", 6), ("test", 4))
        for i, label in zip(range(count), ("normal", "tumor") * 3, strict=False)
    }


def run_script(name, *arguments):
    command = [sys.executable, str(HOWTO / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
