"""What the documents print is true: commands parse, names exist, scripts run, the worked example trains."""

import csv
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from PIL import Image

from dirl import synthetic
from dirl.cells.run import cells
from dirl.cli.main import load
from dirl.config import CellsConfig, TileConfig, load_recipe, make
from dirl.objectives.base import load_objective
from dirl.pretrain.run import pretrain
from dirl.prior.source import CellRegions
from dirl.store.build import tile
from dirl.store.dataset import TileStore
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
    commands = (line for line in found if line.startswith("dirl "))
    return sorted(line for line in commands if not line.startswith("dirl --"))


@pytest.mark.parametrize("line", commands())
def test_a_command_parses(line):
    words = shlex.split(line, comments=True)[1:]
    command = load(words[0])
    given = command.make_context(words[0], words[1:]).params
    if words[0] == "pretrain" and given["recipe"] in RECIPES and "my_package" not in line:
        load_objective(load_recipe(given["recipe"], given["set_"] or []).objective)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8")):
        assert target.startswith("http") or (path.parent / target).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_names_exist(path):
    text = path.read_text(encoding="utf-8")
    undated = text.partition("\n## 20")[0].partition("\n## Log")[0]
    groups = {"dirl.segmenters", "dirl.evaluators"}  # of entry points
    for name in set(re.findall(r"\bdirl(?:\.\w+)+", undated)) - groups:
        assert pkgutil.resolve_name(name)
    for name in re.findall(r"\b(?:src|tests|benchmarks)/[\w/-]+\.\w+", undated):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_drawings_name_every_room(page):
    drawn = set(re.findall(r"\w+", next(text for text in blocks(ROOT / page) if "viewer" in text)))
    modules = (ROOT / "src/dirl").glob("[a-z]*/__init__.py"), (ROOT / "src/dirl").glob("[a-z]*.py")
    assert {path.parent.name for path in modules[0]} | {path.stem for path in modules[1]} <= drawn


@pytest.mark.parametrize("document", ["study.md", "public-data.md"])
def test_a_study_is_sound(document):
    (text,) = blocks(HOWTO / document, "yaml")
    assert expand(make(StudyConfig, yaml.safe_load(text)))


@pytest.fixture
def worked(tmp_path, monkeypatch):
    """Module of the examples of docs/extending.md."""
    (tmp_path / "worked_example.py").write_text("\n".join(blocks(ROOT / "docs/extending.md", "python")))
    monkeypatch.syspath_prepend(tmp_path)
    return import_module("worked_example")


@pytest.mark.usefixtures("worked")
def test_the_worked_segmenter_finds_nuclei(tmp_path):
    truth = synthetic.write(tmp_path / "slide.tif", seed=1, size_px=(512, 512)).labels
    store = tile([tmp_path / "slide.tif"], tmp_path / "store", TileConfig(size_px=64), quiet=True)
    found = cells(store.path, CellsConfig(segmenter="worked_example:Dark,min_um2=20"), quiet=True)
    corners = store.index.select(["x", "y"]).to_pylist()
    labels = np.stack([found.labels(i) for i in range(len(store))])
    true = np.stack([truth[at["y"] : at["y"] + 64, at["x"] : at["x"] + 64] for at in corners])
    overlap = ((labels > 0) & (true > 0)).sum()
    assert 2 * overlap / ((labels > 0).sum() + (true > 0).sum()) > 0.7  # Dice
    assert min(found.nuclei("slide")["area_um2"].to_pylist()) >= 20


def test_the_worked_region_set_draws_nuclei(small_store, worked):
    store = TileStore.open(small_store)
    nuclei = store.cells("hematoxylin")
    drawn = CellRegions(store, nuclei, worked.nuclei_only(), seed=0)
    assert all(np.array_equal(drawn.ids(i), nuclei.regions(i) == 1) for i in range(len(store)))


@pytest.mark.usefixtures("worked")
def test_the_worked_objective_trains(small_store, recipe, tmp_path):
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


def test_the_check_of_english_finds_what_it_should(tmp_path):
    page = tmp_path / "page.md"
    long = " ".join(["word"] * 26)
    page.write_text(
        f"# {long}\n\nGood. Here `is told` code.\n\n| {long} |\n\n- one\n  {long}.\n\nIt stands here.\n"
    )
    module = tmp_path / "module.py"
    module.write_text(f'def f():\n    """Do it.\n\n    {long}.\n    """\n')
    script = [sys.executable, str(ROOT / "tests/english.py"), "--only", str(page), str(module)]
    done = subprocess.run(script, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 1
    places = [line.removeprefix(f"{tmp_path}/").split(": ")[:2] for line in done.stdout.splitlines()]
    assert places == [
        ["page.md:7", "27 words"],
        ["page.md:10", "unusual word “stands”"],
        ["module.py:4", "26 words"],
    ]
