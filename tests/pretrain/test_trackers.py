"""Trackers are extras: what is missing is named before anything is made."""

import importlib.util

import pytest

from dirl.errors import ConfigError
from dirl.pretrain.run import pretrain
from dirl.pretrain.trackers import check_tracker, make_tracker


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named(small_store, recipe, tmp_path, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=rf"logger {name}: needs {name} — pip install 'dirl\[{name}\]'"):
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True, logger=name)
    assert not (tmp_path / "run").exists()


def test_another_tracker_is_refused():
    with pytest.raises(ConfigError, match="no such tracker — use wandb or mlflow"):
        check_tracker("comet")


def test_a_run_that_replaces_another_is_another_there(tmp_path, monkeypatch):
    monkeypatch.setattr("dirl.pretrain.trackers.WandbLogger", lambda **given: given["id"])
    first, again, later = (make_tracker("wandb", tmp_path, when) for when in ("12:00", "12:00", "13:00"))
    assert first == again != later
