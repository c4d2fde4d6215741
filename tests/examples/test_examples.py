"""Every example runs on drawn slides, with a tiny encoder."""

import json
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from dirl import synthetic

EXAMPLES = Path(__file__).parents[2] / "examples"
ENCODER = "timm:vit_tiny_patch16_224,weights=random,img_size=64,depth=2,embed_dim=48,num_heads=3"
TINY = "steps=2 batch=8 checkpoint_every_steps=1 holdout=0.2 views.size_px=32 encoder.patch_px=8"
TINY += " encoder.width=32 encoder.depth=2 encoder.heads=2"


def example(name):
    found = spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert found is not None and found.loader is not None
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module.main


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """A table of eight drawn slides with a label, and the folder of the slides."""
    folder = tmp_path_factory.mktemp("cohort")
    (folder / "slides").mkdir()
    rows = ["path,patient,grade"]
    for i in range(8):
        synthetic.write(folder / "slides" / f"s{i}.tif", seed=i, size_px=(320, 320))
        rows.append(f"slides/s{i}.tif,p{i},{'ab'[i % 2]}")
    (folder / "cohort.csv").write_text("\n".join(rows))
    return folder / "cohort.csv"


@pytest.fixture(scope="module")
def slides(cohort):
    return cohort.parent / "slides"


def test_the_list_names_every_example():
    listed = re.findall(r"\]\((\w+\.py)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in EXAMPLES.glob("*.py"))


def test_audit_your_encoder(slides, tmp_path, capsys):
    example("audit_your_encoder")(ENCODER, slides, tmp_path / "audit", tiles=12, size_px=64)
    assert "attention on nuclei" in capsys.readouterr().out
    assert (tmp_path / "audit" / "report.html").is_file()


def test_nuclei_of_other_tools(slides, tmp_path, capsys):
    """CellViT's layout, with squares of 6 µm on a grid."""
    square = np.array([[0, 0], [12, 0], [12, 12], [0, 12]])
    corners = [np.array([x, y]) for x in range(20, 300, 40) for y in range(20, 300, 40)]
    cells = [{"contour": (at + square).tolist(), "centroid": (at + 6).tolist(), "type": 1} for at in corners]
    metadata = {"base_mpp": 0.5, "target_patch_mpp": 0.5}
    content = {"wsi_metadata": metadata, "type_map": {"1": "Neoplastic"}, "cells": cells}
    (tmp_path / "cellvit").mkdir()
    for slide in slides.iterdir():
        (tmp_path / "cellvit" / f"{slide.stem}.json").write_text(json.dumps(content))
    example("nuclei_of_other_tools")(slides, tmp_path / "cellvit", tmp_path / "work", size_px=64)
    assert len(re.findall(r"s\d: [1-9]\d* nuclei", capsys.readouterr().out)) == 8


def test_features_for_other_tools(slides, tmp_path):
    example("features_for_other_tools")(ENCODER, slides, tmp_path / "features", tools=("clam",), size_px=64)
    assert len(list((tmp_path / "features" / "pt_files").glob("*.pt"))) == 8


def test_features_for_scanpy(slides, tmp_path):
    pytest.importorskip("anndata", reason="the extra anndata is not installed")
    example("features_for_other_tools")(ENCODER, slides, tmp_path / "features", size_px=64)
    assert (tmp_path / "features" / "features.h5ad").is_file()


def test_probe_features(cohort, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("dirl.evaluate.probe.linear.COSTS", np.array([1.0]))
    example("probe_features")(ENCODER, cohort, "grade", tmp_path, size_px=64, folds=3)
    assert "colour_histogram: balanced accuracy" in capsys.readouterr().out


@pytest.mark.slow
def test_slide_models(cohort, tmp_path, capsys):
    example("slide_models")(ENCODER, cohort, "grade", tmp_path, size_px=64, folds=2)
    assert "abmil" in capsys.readouterr().out


@pytest.mark.slow
def test_pretrain_with_controls(slides, tmp_path):
    example("pretrain_with_controls")(slides, tmp_path, settings=TINY.split(), size_px=64)
    summary = json.loads((tmp_path / "audit" / "summary.json").read_text())
    names = [one["name"] for one in summary["encoders"]]
    assert {"vanilla", "nuclei", "boxes"} <= set(names)


@pytest.mark.filterwarnings("ignore:the weights are random")
def test_map_to_qupath(slides, tmp_path, capsys):
    example("map_to_qupath")(ENCODER, slides / "s0.tif", tmp_path / "map", size_px=64)
    assert ".groovy" in capsys.readouterr().out
