"""Features as an AnnData file, read back by AnnData."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from dirl.core.errors import ConfigError
from dirl.features.embed import embed
from dirl.features.feature_files import Features, read_features
from dirl.features.to_anndata import write_anndata


@pytest.fixture
def made(tile_store: Path, encoder_run: Path, tmp_path: Path) -> Features:
    return embed(str(encoder_run), tile_store, tmp_path / "out", device="cpu", quiet=True)


def test_read_back(made: Features, encoder_run: Path) -> None:
    anndata = pytest.importorskip("anndata")
    path = write_anndata(made)
    assert path == made.path / "features.h5ad"
    found = anndata.read_h5ad(path)
    np.testing.assert_array_equal(found.X, made.values)
    assert found.obs.index.name == "tile_id" and found.obs_names.tolist() == made.tile_ids.tolist()
    assert found.obs["slide_id"].tolist() == made.slide_ids.tolist()
    assert found.obs["label"].tolist() == made.labels.tolist() and found.obs["patient_id"].isna().all()
    np.testing.assert_array_equal(found.obsm["spatial"], made.coords)
    np.testing.assert_array_equal(found.obs[["x", "y"]], made.coords)
    assert found.uns["encoder"] == str(encoder_run)
    assert json.loads(found.uns["card"])["inputs"] == dict(made.card.inputs)
    again = read_features(made.path)
    np.testing.assert_array_equal(again.values, made.values)


def test_without_the_extra(made: Features, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"--to anndata: AnnData is not installed .*dirl\[anndata\]"):
        write_anndata(made)
    assert not (made.path / "features.h5ad").exists()
