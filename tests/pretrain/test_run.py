"""Runs: exact resume, exports that timm loads, and what stops one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import timm
import torch
import torch.nn as nn
import yaml
from safetensors.torch import load_file

from dirl.config import EncoderConfig, PretrainRecipe, Settings, load_recipe, make, to_yaml
from dirl.core.errors import ConfigError, Interrupted, StoreError, TrainingError
from dirl.core.signals import TO_ALL
from dirl.encoders.vit import ViT
from dirl.objectives.base import PairObjective
from dirl.pretrain.callbacks import Checkpoint, Signals
from dirl.pretrain.devices import choose_devices, choose_workers
from dirl.pretrain.loggers import MetricsCsv
from dirl.pretrain.module import PretrainModule, spread_metrics
from dirl.pretrain.plan import seeded
from dirl.pretrain.read_run import load_run, read_metrics
from dirl.pretrain.run import pretrain
from dirl.store.dataset import TileStore
from dirl.store.subsample import held_out

CONTROLS = ("shuffled", "moved", "grid", "one", "twice", "tissue-only")
HEADS = {"hidden_width": 16, "output_width": 8}
PROTOTYPES = {"hidden_width": 16, "bottleneck_width": 8, "prototypes": 32}
MULTI_CROP = {"local_count": 2, "local_size_px": 16}
OBJECTIVES = {
    "moco": ({"name": "moco", **HEADS}, {}),
    "byol": ({"name": "byol", **HEADS}, {}),
    "vicreg": ({"name": "vicreg", **HEADS}, {}),
    "dino": ({"name": "dino", **PROTOTYPES}, MULTI_CROP),
    "dinov2": ({"name": "dinov2", **PROTOTYPES}, MULTI_CROP),
}


def with_(recipe, **changes):
    values = recipe.model_dump()
    for key, value in changes.items():
        merge = isinstance(value, dict) and key != "objective"
        values[key] = values[key] | value if merge else value
    return make(PretrainRecipe, values)


def weights(path):
    return load_file(path / "encoder" / "model.safetensors")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_rate_that_is_logged_is_that_of_the_last_block(small_store, recipe, tmp_path):
    rates = []
    for decay in (1.0, 0.5):
        short = with_(recipe, steps=2, optimiser={"layer_decay": decay})
        run = pretrain(short, small_store, tmp_path / str(decay), device="cpu", quiet=True)
        rates.append([row["lr"] for row in read_metrics(run.path / "metrics.csv")])
    assert rates[0] == rates[1]


def test_a_gpu_has_readers_by_default_and_a_cpu_none(monkeypatch):
    assert choose_workers(None, "cpu") == 0 and choose_workers(7, "cpu") == 7
    monkeypatch.setattr("dirl.pretrain.devices.on_gpu", lambda device: device != "cpu")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    found = [choose_workers(None, "auto", share) for share in (None, 1, 3, 8, 32)]
    assert found == [2, 4, 4, 2, 0] and choose_workers(0, "auto") == 0


def test_training_leaves_cudnns_attention_out_and_puts_it_back(small_store, recipe, tmp_path, monkeypatch):
    seen, step = [], PretrainModule.training_step

    def watched(self, *given):
        seen.append(torch.backends.cuda.cudnn_sdp_enabled())
        return step(self, *given)

    monkeypatch.setattr(PretrainModule, "training_step", watched)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    pretrain(with_(recipe, steps=2), small_store, tmp_path / "run", device="cpu", quiet=True)
    assert seen == [False, False] and torch.backends.cuda.cudnn_sdp_enabled() == before


def test_more_gpus_than_there_are_is_the_users_mistake(monkeypatch):
    monkeypatch.setattr("dirl.pretrain.devices.on_gpu", lambda device: device != "cpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ConfigError, match="4 devices: this machine has 2 GPUs"):
        choose_devices("auto", 4, 1)
    assert choose_devices("auto", None, 1).each == 2 and choose_devices("cpu", 4, 1).each == 4


@pytest.fixture(scope="module")
def finished(small_store, recipe, tmp_path_factory):
    return pretrain(recipe, small_store, tmp_path_factory.mktemp("run"), device="cpu", quiet=True)


def test_a_run_holds_what_it_should(finished, small_store):
    card = json.loads((finished.path / "card.json").read_text())
    assert card["finished"] and card["counts"]["steps"] == 6
    assert set(card["inputs"]) == {"store", "tiling", "cells"}
    assert load_recipe(finished.path / "recipe.yaml").model_dump(mode="json") == card["config"]
    rows = read_metrics(finished.path / "metrics.csv")
    assert [r["step"] for r in rows] == [1, 2, 3, 4, 5, 6]
    last = rows[-1]
    assert {"loss", "loss/global", "loss/dense", "prior/contrast", "embedding/std", "lr"} <= set(last)
    assert last["loss"] == pytest.approx(last["loss/global"] + last["loss/dense"], rel=1e-4)
    assert [row["step"] for row in rows if "attention/entropy_joint" in row] == [2, 4, 6]
    assert list((finished.path / "tensorboard").glob("events*"))
    tiles = TileStore.open(small_store)
    assert card["counts"]["held_out"] == held_out(list(tiles.tile_ids), 0.1, 0).sum()
    assert load_run(finished.path).steps == 6


def test_timm_loads_the_encoder(finished):
    config = json.loads((finished.path / "encoder" / "config.json").read_text())
    direct = timm.create_model(
        config["architecture"],
        checkpoint_path=str(finished.path / "encoder" / "model.safetensors"),
        num_classes=0,
        **config["model_args"],
    )
    local = timm.create_model(f"local-dir:{finished.path / 'encoder'}", pretrained=True)
    assert same(direct.state_dict(), weights(finished.path))
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(direct.eval()(images), local.eval()(images))


def test_a_finished_run_is_not_run_again(finished, small_store, recipe):
    before = (finished.path / "last.ckpt").stat().st_mtime_ns
    pretrain(recipe, small_store, finished.path, device="cpu", quiet=True)
    assert (finished.path / "last.ckpt").stat().st_mtime_ns == before


def test_another_recipe_is_refused_and_names_the_difference(finished, small_store, recipe):
    with pytest.raises(StoreError, match=r"dense.weight 1.0 there, 0.0 now"):
        pretrain(with_(recipe, dense={"weight": 0.0}), small_store, finished.path, device="cpu", quiet=True)


@pytest.mark.parametrize("stop", [3, 4])
def test_an_interrupted_run_ends_with_the_same_weights(
    finished, small_store, recipe, tmp_path, monkeypatch, stop
):
    """Interrupted at a checkpoint and between two: weights and every logged number agree, bit for bit."""
    save = Checkpoint.on_train_batch_end

    def interrupt(self, trainer, *rest):
        save(self, trainer, *rest)
        if trainer.global_step == stop:
            raise RuntimeError("power cut")

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", interrupt)
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    resumed = pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert same(weights(resumed.path), weights(finished.path))
    assert (resumed.path / "metrics.csv").read_text() == (finished.path / "metrics.csv").read_text()


def test_workers_do_not_change_the_result(finished, small_store, recipe, tmp_path):
    done = pretrain(recipe, small_store, tmp_path / "run", device="cpu", workers=1, quiet=True)
    assert same(weights(done.path), weights(finished.path))


def test_killed_and_resumed_by_the_same_command_ends_with_the_same_weights(
    finished, small_store, recipe, tmp_path
):
    """SIGKILL, the real one, after the first checkpoint."""
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    out = tmp_path / "run"
    command = [sys.executable, "-m", "dirl.cli.main", "pretrain", str(tmp_path / "recipe.yaml"), "--quiet"]
    command += ["--store", str(small_store), "--out", str(out), "--device", "cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 600
    while not (out / "last.ckpt").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert (out / "last.ckpt").exists()
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=600)
    assert same(weights(out), weights(finished.path))


def test_vanilla_and_dirl_start_alike_and_see_the_same_views(small_store, recipe, tmp_path):
    """λ = 0 is the one key apart: at step 0 the global terms are equal, and vanilla needs no cells."""
    one_step = with_(recipe, steps=1)
    dirl = pretrain(one_step, small_store, tmp_path / "dirl", device="cpu", quiet=True)
    plain = pretrain(
        with_(one_step, dense={"weight": 0.0}, cells="none"),
        small_store,
        tmp_path / "v",
        device="cpu",
        quiet=True,
    )
    assert plain.metrics["loss/global"] == pytest.approx(dirl.metrics["loss/global"], rel=1e-5)
    assert "loss/dense" not in plain.metrics and "loss/dense" in dirl.metrics


@pytest.mark.parametrize(
    "dense",
    [
        {"extract": "pool"},
        {"extract": "disentangle", "regions": "tissue"},
        {"extract": "pool", "match": "overlap"},
        {"extract": "cls", "match": "instance"},
        {"extract": "pool", "negatives": "regions"},
        {"regions": "grid"},
        {"extract": "pool", "noise": {"kind": "drop", "strength": 0.5}},
        *({"control": control} for control in CONTROLS),
        {"regions": "tissue", "control": "matched-grid"},
    ],
)
def test_every_arm_trains(small_store, recipe, tmp_path, dense):
    done = pretrain(
        with_(recipe, steps=2, dense=dense), small_store, tmp_path / "run", device="cpu", quiet=True
    )
    assert done.metrics["loss/dense"] > 0


def test_half_precision_trains_close_to_full(finished, small_store, recipe, tmp_path):
    half = with_(recipe, precision="bf16-mixed")
    done = pretrain(half, small_store, tmp_path / "run", device="cpu", quiet=True)
    first, other = (read_metrics(p / "metrics.csv")[0] for p in (finished.path, done.path))
    assert first["loss"] == pytest.approx(other["loss"], rel=0.03)
    assert all(value.dtype == torch.float32 for value in weights(done.path).values())


def test_shuffled_changes_the_dense_term_alone(finished, small_store, recipe, tmp_path):
    shuffled = with_(recipe, dense={"control": "shuffled"})
    done = pretrain(shuffled, small_store, tmp_path / "run", device="cpu", quiet=True)
    first, other = (read_metrics(p / "metrics.csv")[0] for p in (finished.path, done.path))
    assert first["loss/global"] == pytest.approx(other["loss/global"], rel=1e-5)
    assert first["loss/dense"] != other["loss/dense"]


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_state(small_store, recipe, tmp_path):
    wild = with_(recipe, steps=40, optimiser={"lr": 1e30, "clip_norm": None, "warmup_share": 0.0})
    with pytest.raises(TrainingError, match=r"the loss is .* lower optimiser.lr"):
        pretrain(wild, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "encoder").exists()


def test_nor_is_a_broken_state_given_away_where_no_look_was_due(small_store, recipe, tmp_path):
    wild = with_(
        recipe,
        steps=5,
        log_every_steps=10,
        checkpoint_every_steps=10,
        optimiser={"lr": 1e30, "clip_norm": None, "warmup_share": 0.0},
    )
    with pytest.raises(TrainingError, match="at step 5"):
        pretrain(wild, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run" / "last.ckpt").exists()


class Attract(PairObjective):
    """An objective that is solved by collapsing; also a third party's plugin, in one class."""

    class Config(Settings):
        """It has no settings."""

    def __init__(self, width, config, regions):
        super().__init__(nn.Identity, width, regions)

    def global_terms(self, student):
        first, second = (nn.functional.normalize(view.cls, dim=1) for view in student)
        return {"global": torch.cat([first, second]).var(dim=0).sum()}

    def region_losses(self, student, target, present):
        return (student - target).square().mean(dim=-1)


@pytest.fixture
def plugin_module(monkeypatch):
    monkeypatch.setitem(sys.modules, "third_party", sys.modules[__name__])


def test_collapse_stops_the_run_and_says_what_to_try(small_store, recipe, tmp_path, plugin_module):
    collapsing = with_(
        recipe,
        steps=400,
        objective={"name": "third_party:Attract"},
        dense={"weight": 0.0},
        optimiser={"lr": 0.1, "warmup_share": 0.0},
        checkpoint_every_steps=100,
    )
    with pytest.raises(TrainingError, match="collapsed"):
        pretrain(collapsing, small_store, tmp_path / "run", device="cpu", quiet=True)


def test_what_a_recipe_cannot_have_is_refused_before_anything_is_made(small_store, recipe, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(StoreError, match="no cells of hovernet"):
        pretrain(with_(recipe, cells="hovernet"), small_store, out, device="cpu", quiet=True)
    with pytest.raises(ConfigError, match=r"no such objective.*simclr"):
        pretrain(with_(recipe, objective={"name": "simclear"}), small_store, out, device="cpu", quiet=True)
    with pytest.raises(ConfigError, match="but a batch of 4096"):
        pretrain(with_(recipe, batch=4096), small_store, out, device="cpu", quiet=True)
    with pytest.raises(StoreError, match="no such directory"):
        pretrain(recipe, tmp_path / "nowhere", out, device="cpu", quiet=True)
    assert not out.exists()


def test_an_unfinished_run_is_not_taken_for_a_finished_one(tmp_path, small_store, recipe, monkeypatch):
    monkeypatch.setattr(ViT, "save", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        pretrain(with_(recipe, steps=1), small_store, tmp_path / "run", device="cpu", quiet=True)
    with pytest.raises(StoreError, match="not finished"):
        load_run(tmp_path / "run")


def test_coarse_tokens_are_warned_of(small_store, recipe, tmp_path):
    coarse = with_(recipe, steps=1, encoder={"patch_px": 32})
    with pytest.warns(UserWarning, match=r"tokens of .* are coarse"):
        pretrain(coarse, small_store, tmp_path / "run", device="cpu", quiet=True)


def test_spread_of_a_point_a_line_and_a_ball():
    point = spread_metrics(torch.ones(64, 16))
    assert point["embedding/std"] == pytest.approx(0, abs=1e-5)
    ball = spread_metrics(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)))
    assert ball["embedding/std"] == pytest.approx(1, abs=0.02) and ball["embedding/rank"] > 15.5
    line = torch.randn(64, 1) * torch.ones(1, 16)
    assert spread_metrics(line)["embedding/rank"] == pytest.approx(1, abs=1e-3)


def test_the_log_survives_new_columns_and_cuts_what_a_crash_left(tmp_path):
    log = MetricsCsv(tmp_path / "m.csv", 0)
    log.log_metrics({"loss": 1.0}, 1)
    log.log_metrics({"loss": 0.5, "extra": 2.0}, 2)
    log.log_metrics({"loss": 0.25}, 3)
    again = MetricsCsv(tmp_path / "m.csv", 2)
    again.log_metrics({"loss": 0.125}, 3)
    rows = read_metrics(tmp_path / "m.csv")
    assert rows == [{"step": 1, "loss": 1}, {"step": 2, "loss": 0.5, "extra": 2}, {"step": 3, "loss": 0.125}]


def test_a_row_that_a_crash_cut_short_is_none(tmp_path):
    (tmp_path / "m.csv").write_text("step,loss\n1,0.5\n2,0.2")
    assert read_metrics(tmp_path / "m.csv") == [{"step": 1, "loss": 0.5}]
    MetricsCsv(tmp_path / "m.csv", 1).log_metrics({"loss": 0.25}, 2)
    assert read_metrics(tmp_path / "m.csv")[-1] == {"step": 2, "loss": 0.25}
    assert read_metrics(tmp_path / "nothing.csv") == []


def test_signals_are_as_they_were_when_a_run_is_over(small_store, recipe, tmp_path):
    before = [signal.getsignal(number) for number in TO_ALL]
    pretrain(with_(recipe, steps=1), small_store, tmp_path / "run", device="cpu", quiet=True)
    assert [signal.getsignal(number) for number in TO_ALL] == before


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_ends_training_after_the_step_and_is_raised(
    finished, small_store, recipe, tmp_path, monkeypatch, name
):
    number, save = getattr(signal, name), Checkpoint.on_train_batch_end

    def stop(self, trainer, *rest):
        save(self, trainer, *rest)
        if trainer.global_step == 3:
            signal.raise_signal(number)

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", stop)
    with pytest.raises(Interrupted) as caught:
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True)
    monkeypatch.undo()
    assert caught.value.number == number and not (tmp_path / "run" / "encoder").exists()
    resumed = pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True)
    assert same(weights(resumed.path), weights(finished.path))


def test_a_run_that_a_signal_stopped_can_be_asked_for(small_store, recipe, tmp_path, monkeypatch):
    begin = Signals.on_train_start

    def stop(self, *rest):
        begin(self, *rest)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Signals, "on_train_start", stop)
    run = pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True, allow_unfinished=True)
    assert not run.finished and run.steps == 1


def test_the_recipe_in_the_run_is_plain_yaml(finished):
    assert yaml.safe_load((finished.path / "recipe.yaml").read_text())["dense"]["weight"] == 1.0


def test_the_encoder_of_a_recipe_is_initialised_from_its_seed():
    config = EncoderConfig(name="vit_tiny_patch16_224", patch_px=8, width=32, depth=1, heads=2)
    with seeded(3):
        first = ViT(config, 32)
    with seeded(3):
        second = ViT(config, 32)
    assert same(first.vit.state_dict(), second.vit.state_dict())
