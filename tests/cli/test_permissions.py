"""What may not be read or written, or is gone, is named as that, and not as damaged or as never made."""

import os
import shutil
import stat
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dirl import synthetic
from dirl.cli import main as program
from dirl.config import load_recipe
from dirl.core.errors import DirlError

NOBODY = 65534
pytestmark = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users of this kind here")


@contextmanager
def as_nobody():
    """Root may read everything; so be another user for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@contextmanager
def without_rights(path: Path, mode: int = 0):
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode)
    try:
        with as_nobody():
            yield
    finally:
        path.chmod(before)


@pytest.fixture(scope="module")
def place(small_store):
    """Inputs of every kind in a folder that every user may use, as pytest's own folders may not be."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(small_store, root / "store")
        synthetic.write(root / "slide.tif", 1, (512, 512))
        (root / "folder").mkdir()
        shutil.copy(root / "slide.tif", root / "folder" / "one.tif")
        Image.fromarray(np.full((300, 300, 3), 200, np.uint8)).save(root / "plain.png")
        (root / "table.csv").write_text("slide_id,mpp\nslide,0.5\n")
        (root / "recipe.yaml").write_text("steps: 3\n")
        (root / "features").mkdir()
        (root / "features" / "slide.h5").write_bytes(b"no features")
        (root / "labels.csv").write_text("slide_id,label\nslide,a\n")
        (root / "weights.safetensors").write_bytes(b"no weights")
        (root / "outlines.geojson").write_text('{"type": "FeatureCollection", "features": []}')
        (root / "read-only").mkdir()
        for path in (root, *root.rglob("*")):
            path.chmod(0o777 if path.is_dir() else 0o666)
        yield root


@pytest.fixture
def ask(monkeypatch, capsys):
    def run(command):
        monkeypatch.setattr(sys, "argv", ["dirl", *command])
        with pytest.raises(SystemExit) as left:
            program.main()
        return left.value.code or 0, " ".join(capsys.readouterr().err.split())

    return run


REPORT = "cells-report {0}/store --out {0}/out --quiet"
UNREADABLE = {
    "slide.tif": "tile {0}/slide.tif --out {0}/out --quiet",
    "plain.png": "tile {0}/plain.png --mpp-override 0.5 --out {0}/out --quiet",
    "folder": "tile {0}/folder --out {0}/out --quiet",
    "table.csv": "tile {0}/slide.tif --cohort {0}/table.csv --out {0}/out --quiet",
    "features/slide.h5": "probe {0}/features --labels {0}/labels.csv --out {0}/out --quiet",
    "store/card.json": REPORT,
    "store/index.parquet": REPORT,
    "store/tiles/slide.tar": REPORT,
    "store/cells/hematoxylin/index.parquet": REPORT,
    "store/cells/hematoxylin/slide.tar": REPORT,
    "store/cells/hematoxylin/slide.nuclei.parquet": REPORT,
    "outlines.geojson": "cells {0}/store --segmenter geojson:{0}/outlines.geojson --name own --quiet",
    "weights.safetensors": "embed timm:vit_tiny_patch16_224,weights={0}/weights.safetensors "
    "--store {0}/store --out {0}/out --device cpu --quiet",
}


@pytest.fixture(scope="module")
def warm():
    """Commands that have run."""
    return set()


def tidy(place):
    for made in (place / "out", place / "store" / "cells" / "own"):
        shutil.rmtree(made, ignore_errors=True)


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_may_not_be_read_is_named_as_that(place, ask, warm, name):
    if name == "outlines.geojson":
        pytest.importorskip("shapely")
    command = [word.format(place) for word in UNREADABLE[name].split()]
    if UNREADABLE[name] not in warm:
        ask(command)  # Python's own modules may not be another user's to read: so all are imported
        warm.add(UNREADABLE[name])
        tidy(place)
    with without_rights(place / name):
        code, said = ask(command)
    tidy(place)
    assert code == 2 and f"{place / name}: permission denied" in said, said
    assert "damaged" not in said and "no such" not in said


def test_a_recipe_that_may_not_be_read_is_named_as_that(place):
    assert load_recipe(place / "recipe.yaml").steps == 3
    with without_rights(place / "recipe.yaml"), pytest.raises(DirlError, match=r"recipe\.yaml: permission"):
        load_recipe(place / "recipe.yaml")


def test_a_folder_that_may_not_be_written_to_is_named_as_that(place, ask):
    inside = place / "read-only"
    ask(["tile", str(place / "slide.tif"), "--out", str(place / "out"), "--quiet"])
    tidy(place)
    with without_rights(inside, 0o555):
        code, said = ask(["tile", str(place / "slide.tif"), "--out", str(inside / "store"), "--quiet"])
    assert code == 2 and str(inside) in said and "permission denied" in said, said


def test_a_slide_that_is_gone_is_named_as_that(place, ask):
    ask(["tile", str(place / "folder"), "--out", str(place / "gone"), "--size", "128", "--quiet"])
    (place / "folder" / "one.tif").unlink()
    code, said = ask(["cells", str(place / "gone"), "--quiet"])
    assert code == 2 and "one.tif: the slide is missing" in said and "damaged" not in said, said
