"""Every objective in a run: exact resume, a teacher that follows, the same start with and without regions."""

import pytest
import torch

from dirl.core.errors import ConfigError, EncoderError, TrainingError
from dirl.pretrain.callbacks import Checkpoint
from dirl.pretrain.module import PretrainModule
from dirl.pretrain.read_run import read_metrics
from dirl.pretrain.run import pretrain
from tests.pretrain.test_run import CONTROLS, OBJECTIVES, same, weights, with_


def recipe_of(recipe, name, **changes):
    objective, views = OBJECTIVES[name]
    return with_(recipe, objective=objective, views=views, **changes)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_killed_between_checkpoints_it_ends_with_the_same_weights(
    small_store, recipe, tmp_path, monkeypatch, name
):
    drop = 0 if name == "dinov2" else 0.5
    mine = recipe_of(recipe, name, steps=4, encoder={"drop_path": 0.1, "registers": 1, "drop_tokens": drop})
    whole = pretrain(mine, small_store, tmp_path / "whole", device="cpu", quiet=True)
    save = Checkpoint.on_train_batch_end

    def interrupt(self, trainer, *rest):
        save(self, trainer, *rest)
        if trainer.global_step == 3:
            raise RuntimeError("power cut")

    monkeypatch.setattr(Checkpoint, "on_train_batch_end", interrupt)
    with pytest.raises(RuntimeError, match="power cut"):
        pretrain(mine, small_store, tmp_path / "cut", device="cpu", quiet=True)
    monkeypatch.undo()
    cut = pretrain(mine, small_store, tmp_path / "cut", device="cpu", quiet=True)
    assert same(weights(cut.path), weights(whole.path))
    states = [torch.load(r.path / "last.ckpt", weights_only=True)["state_dict"] for r in (whole, cut)]
    assert same(*states)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_vanilla_starts_as_dirl_does(small_store, recipe, tmp_path, name):
    runs = [
        pretrain(
            recipe_of(recipe, name, steps=1, dense={"weight": weight}),
            small_store,
            tmp_path / str(weight),
            device="cpu",
            quiet=True,
        )
        for weight in (0.0, 1.0)
    ]
    names = [key for key in runs[0].metrics if key.startswith("loss/")]
    assert names and "loss/dense" not in names
    for key in names:
        assert runs[0].metrics[key] == pytest.approx(runs[1].metrics[key], rel=1e-4), key


def test_a_teacher_follows_the_student(small_store, recipe, tmp_path):
    done = pretrain(recipe_of(recipe, "byol"), small_store, tmp_path / "run", device="cpu", quiet=True)
    state = torch.load(done.path / "last.ckpt", weights_only=True)["state_dict"]
    key = "vit.blocks.0.attn.qkv.weight"
    teacher, student = state[f"teacher.encoder.{key}"], state[f"encoder.{key}"]
    assert not torch.equal(teacher, student)
    assert (teacher - student).abs().max() < 0.1


def test_mocos_patch_embedding_stays_as_it_was(small_store, recipe, tmp_path):
    runs = [
        pretrain(
            recipe_of(recipe, "moco", steps=steps),
            small_store,
            tmp_path / str(steps),
            device="cpu",
            quiet=True,
        )
        for steps in (1, 4)
    ]
    first, later = (weights(run.path) for run in runs)
    assert torch.equal(first["patch_embed.proj.weight"], later["patch_embed.proj.weight"])
    assert not torch.equal(first["blocks.0.attn.qkv.weight"], later["blocks.0.attn.qkv.weight"])


def test_the_mask_token_is_no_part_of_the_encoder_that_is_given_away(small_store, recipe, tmp_path):
    done = pretrain(
        recipe_of(recipe, "dinov2", steps=1), small_store, tmp_path / "run", device="cpu", quiet=True
    )
    assert not [key for key in weights(done.path) if "mask" in key]
    assert {"loss/global", "loss/ibot", "loss/koleo", "loss/dense"} <= set(done.metrics)


@pytest.mark.parametrize("control", CONTROLS)
def test_controls_leave_the_global_term_alone(small_store, recipe, tmp_path, control):
    runs = [
        pretrain(
            recipe_of(recipe, "byol", steps=1, dense={"control": kind, "extract": "pool"}),
            small_store,
            tmp_path / str(kind),
            device="cpu",
            quiet=True,
        )
        for kind in (None, control)
    ]
    assert runs[0].metrics["loss/global"] == pytest.approx(runs[1].metrics["loss/global"], rel=1e-5)
    assert runs[0].metrics["loss/dense"] != runs[1].metrics["loss/dense"]


def test_accumulated_parts_make_one_step(small_store, recipe, tmp_path):
    halves = with_(recipe, steps=2, optimiser={"accumulate": 2}, dense={"weight": 0.0})
    done = pretrain(halves, small_store, tmp_path / "run", device="cpu", quiet=True)
    rows = read_metrics(done.path / "metrics.csv")
    assert [row["step"] for row in rows] == [1, 2]


def test_recomputed_activations_change_nothing(small_store, recipe, tmp_path):
    runs = [
        pretrain(
            with_(recipe, steps=2, encoder={"checkpoint_blocks": flag}, dense={"extract": "cls"}),
            small_store,
            tmp_path / str(flag),
            device="cpu",
            quiet=True,
        )
        for flag in (False, True)
    ]
    first, other = (weights(run.path) for run in runs)
    for key in first:
        torch.testing.assert_close(first[key], other[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": {"local_count": 2, "local_size_px": 16}}, "simclr takes no local views"),
        ({"objective": {"name": "byol"}, "dense": {"negatives": "regions"}}, "byol has no negatives"),
        ({"objective": {"name": "dinov2"}, "encoder": {"drop_tokens": 0.5}}, "masks patch tokens"),
        ({"objective": {"name": "simclr", "prototypes": 8}}, "unknown key prototypes"),
        ({"batch": 6, "optimiser": {"accumulate": 4}}, "cannot be cut into 4 equal parts"),
        ({"batch": 4, "optimiser": {"accumulate": 4}}, "needs 2 at a time"),
        (
            {"objective": OBJECTIVES["dino"][0], "views": {"local_count": 2, "local_size_px": 17}},
            "no whole number of patches",
        ),
    ],
)
def test_what_an_objective_cannot_do_is_refused(small_store, recipe, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        pretrain(with_(recipe, **changes), small_store, tmp_path / "run", device="cpu", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: not enough memory")],
)
def test_out_of_memory_says_the_batch_and_the_remedy(small_store, recipe, tmp_path, monkeypatch, error):
    def full(self, batch, batch_idx):
        raise error

    monkeypatch.setattr(PretrainModule, "training_step", full)
    with pytest.raises(TrainingError, match=r"8 tiles at a time .* raise optimiser.accumulate"):
        pretrain(recipe, small_store, tmp_path / "run", device="cpu", quiet=True)


def test_starting_weights_are_told_of_and_change_the_start(small_store, recipe, tmp_path):
    first = pretrain(recipe, small_store, tmp_path / "first", device="cpu", quiet=True)
    finer = with_(recipe, steps=1, encoder={"init": str(first.path), "patch_px": 4, "frozen_blocks": 1})
    with pytest.warns(UserWarning, match="resampled"):
        second = pretrain(finer, small_store, tmp_path / "second", device="cpu", quiet=True)
    one, other = weights(first.path), weights(second.path)
    assert same({"q": one["blocks.0.attn.qkv.weight"]}, {"q": other["blocks.0.attn.qkv.weight"]})
    assert not torch.equal(one["blocks.1.attn.qkv.weight"], other["blocks.1.attn.qkv.weight"])
    assert (second.path / "init.json").exists()


def test_weights_of_another_architecture_are_refused(small_store, recipe, tmp_path):
    first = pretrain(with_(recipe, steps=1), small_store, tmp_path / "first", device="cpu", quiet=True)
    wider = with_(recipe, encoder={"init": str(first.path), "width": 48})
    with pytest.raises(EncoderError, match=r"32.*48|48.*32"):
        pretrain(wider, small_store, tmp_path / "second", device="cpu", quiet=True)
    assert not (tmp_path / "second").exists()
