"""Trackers are extras: what is missing is named before anything is made."""

import importlib.util

import pytest

from dirl.errors import ConfigError
from dirl.pretrain.run import pretrain
from dirl.pretrain.trackers import make_tracker


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named(small_store, recipe, tmp_path, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=rf"--logger {name}: needs {name} — pip install 'dirl\[{name}\]'"):
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True, logger=name)
    assert not (tmp_path / "run").exists()


def test_another_tracker_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such tracker — use wandb or mlflow"):
        make_tracker("comet", tmp_path)
