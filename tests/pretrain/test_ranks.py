"""Two processes on a CPU against one with the whole batch: losses, weights, and resuming."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from dirl.config import to_yaml
from dirl.pretrain.read_run import read_metrics
from dirl.pretrain.run import pretrain
from tests.pretrain.test_run import OBJECTIVES, weights, with_


def arguments(recipe, store, out, folder, *more):
    (folder / "recipe.yaml").write_text(to_yaml(recipe))
    line = [sys.executable, "-m", "dirl.cli.main", "pretrain", str(folder / "recipe.yaml"), "--quiet"]
    line += ["--store", str(store), "--out", str(out), "--device", "cpu", *more]
    return line, os.environ | {"OMP_NUM_THREADS": "1"}


def command(*asked):
    line, environment = arguments(*asked)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


def compare(one, other, rtol=2e-3):
    first, second = (read_metrics(path / "metrics.csv") for path in (one, other))
    assert [row["step"] for row in first] == [row["step"] for row in second]
    for a, b in zip(first, second, strict=True):
        for key in a:
            if key.startswith(("loss", "lr", "token_um")):
                assert a[key] == pytest.approx(b[key], rel=rtol, abs=1e-4), (a["step"], key)
    mine, theirs = weights(one), weights(other)
    for key, value in mine.items():
        torch.testing.assert_close(value, theirs[key], rtol=0.05, atol=3e-4)


def gentle(recipe, name):
    objective, views = OBJECTIVES.get(name, (recipe.objective.model_dump(), {}))
    return with_(recipe, steps=4, objective=objective, views=views, optimiser={"lr": 1e-4})


@pytest.mark.parametrize("name", ["simclr", "dinov2"])
def test_two_processes_are_one_with_the_whole_batch(small_store, recipe, tmp_path, name):
    mine = gentle(recipe, name)
    single = pretrain(mine, small_store, tmp_path / "one", device="cpu", quiet=True)
    command(mine, small_store, tmp_path / "two", tmp_path, "--devices", "2")
    compare(single.path, tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moco", "byol", "vicreg", "dino"])
def test_so_are_the_other_objectives(small_store, recipe, tmp_path, name):
    mine = gentle(recipe, name)
    single = pretrain(mine, small_store, tmp_path / "one", device="cpu", quiet=True)
    command(mine, small_store, tmp_path / "two", tmp_path, "--devices", "2")
    compare(single.path, tmp_path / "two")


@pytest.mark.parametrize("ranks", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_signal_ends_the_step_and_the_same_command_goes_on(small_store, recipe, tmp_path, ranks):
    """SIGTERM to the first process: saved, exit 143; the end is as if it had not come."""
    mine = with_(gentle(recipe, "byol"), steps=30, checkpoint_every_steps=10)
    devices = ["--devices", str(ranks)]
    command(mine, small_store, tmp_path / "whole", tmp_path, *devices)
    line, environment = arguments(mine, small_store, tmp_path / "cut", tmp_path, *devices)
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "cut" / "metrics.csv"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) > 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 143, errors[-2000:]
    assert errors.strip() == "error: interrupted — run the same command again to continue"
    state = torch.load(tmp_path / "cut" / "last.ckpt", weights_only=True)
    assert 0 < state["global_step"] < 30
    assert not (tmp_path / "cut" / "encoder").exists()
    command(mine, small_store, tmp_path / "cut", tmp_path, *devices)
    one, other = weights(tmp_path / "cut"), weights(tmp_path / "whole")
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
def test_ctrl_c_in_a_terminal_reaches_the_readers_and_the_run_is_saved_all_the_same(
    small_store, recipe, tmp_path
):
    out = tmp_path / "run"
    line, environment = arguments(with_(recipe, steps=5000), small_store, out, tmp_path, "--workers", "2")
    process = subprocess.Popen(
        line,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    metrics, deadline = out / "metrics.csv", time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        if metrics.exists() and len(metrics.read_text().splitlines()) > 2:
            break
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=900)
    assert process.returncode == 130, errors[-2000:]
    assert errors.strip() == "error: interrupted — run the same command again to continue"
    assert torch.load(out / "last.ckpt", weights_only=True)["global_step"] > 0


@pytest.mark.gpu
def test_a_gpu_trains(small_store, recipe, tmp_path):
    mine = gentle(recipe, "byol")
    done = pretrain(mine, small_store, tmp_path / "run", device="cuda", quiet=True)
    assert done.finished and weights(done.path)


@pytest.mark.gpu
def test_a_gpu_trains_region_rows_in_half_precision(small_store, recipe, tmp_path):
    rows = with_(recipe, precision="bf16-mixed", dense={"weight": 1.0, "extract": "cls"})
    assert pretrain(rows, small_store, tmp_path / "run", device="cuda", quiet=True).finished
