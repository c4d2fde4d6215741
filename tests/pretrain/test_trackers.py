"""Trackers are extras: what is missing is named before anything is made."""

import importlib.util
from dataclasses import dataclass

import pytest

from dirl.core.errors import ConfigError
from dirl.pretrain.loggers import check_tracker, make_tracker
from dirl.pretrain.run import pretrain


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_extra_is_named(small_store, recipe, tmp_path, monkeypatch, name):
    monkeypatch.setattr(importlib.util, "find_spec", lambda module: None)
    with pytest.raises(ConfigError, match=rf"logger {name}: needs {name} — pip install 'dirl\[{name}\]'"):
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True, logger=name)
    assert not (tmp_path / "run").exists()


def test_another_tracker_is_refused():
    with pytest.raises(ConfigError, match="no such tracker — use wandb or mlflow"):
        check_tracker("comet")  # type: ignore[arg-type]  # no such tracker


@dataclass
class Tracker:
    """A logger of Lightning's, as far as it is used here."""

    name: str
    experiment: object = None


def test_a_run_that_replaces_another_is_another_there(tmp_path, monkeypatch):
    monkeypatch.setattr("dirl.pretrain.loggers.WandbLogger", lambda **given: Tracker(given["id"]))
    made = [make_tracker("wandb", tmp_path, when) for when in ("12:00", "12:00", "13:00")]
    first, again, later = (one.name for one in made)
    assert first == again != later


def test_a_refusal_of_the_tracker_is_a_clear_error(tmp_path, monkeypatch):
    """MLflow refuses a folder, file:…, when it is asked for the experiment, by an exception of its own."""

    class Refusing:
        @property
        def experiment(self):
            raise RuntimeError("The filesystem tracking backend is in maintenance mode")

    monkeypatch.setattr("dirl.pretrain.loggers.MLFlowLogger", lambda **given: Refusing())
    with pytest.raises(ConfigError, match=r"mlflow refuses \(The filesystem .*MLFLOW_TRACKING_URI") as caught:
        make_tracker("mlflow", tmp_path, "12:00")
    assert caught.value.exit_code == 2
