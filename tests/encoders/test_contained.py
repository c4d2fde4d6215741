"""The encoder within foreign checkpoints: found in every wrapper, whole, and never the wrong one of two."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from dirl.config import EncoderConfig
from dirl.core.errors import EncoderError
from dirl.encoders.huggingface import to_hf
from dirl.encoders.loading import load_encoder
from dirl.encoders.pretrained import initialise
from dirl.encoders.vit import ViT

TINY = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3}
OPTIONS = ",".join(f"{name}={value}" for name, value in SMALL.items())
HEADS = {"mlp.0.weight": torch.zeros(2, 12), "last_layer.weight_v": torch.zeros(2, 2)}
ANY = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
SEGMENTS = st.sampled_from(
    ["module", "_orig_mod", "_fsdp_wrapped_module", "model", "backbone", "encoder", "net", "vit", "visual"]
)


def encoder_state(seed: int = 1) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state: dict[str, Tensor] = timm.create_model(TINY, num_classes=0, **SMALL).state_dict()
        return {name: value + 0.1 * torch.randn_like(value) for name, value in state.items()}


STATE = encoder_state()
OTHER = {name: value + 1 for name, value in STATE.items()}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in state.items()}


def nested(names: list[str], held: dict[str, Any]) -> dict[str, Any]:
    for name in reversed(names):
        held = {name: held}
    return held


def load(path: Path, options: str = OPTIONS) -> dict[str, Tensor]:
    state: dict[str, Tensor] = load_encoder(f"timm:{TINY},{options},weights={path}").model.state_dict()
    return state


def is_state(found: dict[str, Tensor]) -> bool:
    return all(torch.equal(found[name], value) for name, value in STATE.items())


def in_chunks(state: dict[str, Tensor], each: int, anew: bool) -> dict[str, Tensor]:
    """Name blocks as DINOv2 does under FSDP; `anew` numbers them within their chunk."""

    def name(match: re.Match[str]) -> str:
        number = int(match[1])
        return f"blocks.{number // each}.{number % each if anew else number}."

    return {re.sub(r"^blocks\.(\d+)\.", name, key): value for key, value in state.items()}


@ANY
@given(
    containers=st.lists(
        st.sampled_from(["state_dict", "model", "checkpoint", "model_state_dict"]), max_size=2
    ),
    prefix=st.lists(SEGMENTS, max_size=3),
    pair=st.sampled_from(
        [("", ""), ("teacher", "student"), ("model_ema", "model"), ("target_net", "online_net")]
    ),
    within=st.sampled_from(["", "_fsdp_wrapped_module", "_orig_mod", "module"]),
    chunk=st.sampled_from([0, 1, 2]),
    anew=st.booleans(),
    hf=st.booleans(),
    heads=st.booleans(),
)
def test_every_wrapper_gives_the_same_weights(
    tmp_path: Path,
    containers: list[str],
    prefix: list[str],
    pair: tuple[str, str],
    within: str,
    chunk: int,
    anew: bool,
    hf: bool,
    heads: bool,
) -> None:
    def wrapped(first: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = to_hf(state, "vit") if hf else in_chunks(state, chunk, anew) if chunk else state
        state = {name.replace("attn.", f"attn.{within}.") if within else name: v for name, v in state.items()}
        parts = [part for part in (first, *prefix) if part]
        return under(".".join(parts), state) if parts else state

    held = wrapped(pair[0], STATE) | (wrapped(pair[1], OTHER) if pair[1] else {})
    if heads:
        held |= under(f"{pair[0]}.head" if pair[0] else "head", HEADS) | {"queue": torch.zeros(3, 4)}
    torch.save(nested(containers, held) | {"epoch": 3, "lr": [1e-3]}, tmp_path / "w.pth")
    if hf:
        encoder = ViT(EncoderConfig(name=TINY, patch_px=8, width=12, depth=2, heads=3), 32)
        initialise(encoder, str(tmp_path / "w.pth"))
        assert is_state(encoder.vit.state_dict())
    else:
        assert is_state(load(tmp_path / "w.pth"))


LAYOUTS: dict[str, tuple[dict[str, Any], str, list[str]]] = {
    "dino": (
        {
            "student": under("module.backbone", OTHER) | under("module.head", HEADS),
            "teacher": under("backbone", STATE) | under("head", HEADS),
        },
        "teacher.backbone",
        ["student.module", "teacher.head"],
    ),
    "dinov2": (
        {
            "model": under("student.backbone", OTHER)
            | under("teacher.backbone", STATE | {"mask_token": torch.zeros(1, 12)})
            | under("teacher.dino_head", HEADS)
        },
        "model.teacher.backbone",
        ["model.student", "model.teacher.backbone.mask_token", "model.teacher.dino_head"],
    ),
    "moco": (
        {
            "state_dict": under("module.base_encoder", STATE)
            | under("module.momentum_encoder", OTHER)
            | under("module.predictor", HEADS)
        },
        "state_dict.module.base_encoder",
        ["state_dict.module.momentum_encoder", "state_dict.module.predictor"],
    ),
    "mae": (
        {"model": STATE | {"mask_token": torch.zeros(1, 1, 6), "decoder_embed.weight": torch.zeros(6, 12)}},
        "model",
        ["model.mask_token", "model.decoder_embed"],
    ),
    "lightly": (
        {"state_dict": under("teacher_backbone.vit", STATE) | under("student_backbone.vit", OTHER)},
        "state_dict.teacher_backbone.vit",
        ["state_dict.student_backbone"],
    ),
    "lightly moco": (
        {"state_dict": under("backbone_momentum.vit", OTHER) | under("backbone.vit", STATE)},
        "state_dict.backbone.vit",
        ["state_dict.backbone_momentum"],
    ),
    "a run's own": (
        {"state_dict": under("teacher.encoder.vit", OTHER) | under("encoder.vit", STATE)},
        "state_dict.encoder.vit",
        ["state_dict.teacher"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_published_layouts(tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str) -> None:
    caplog.set_level("INFO", logger="dirl")
    held, prefix, left = LAYOUTS[name]
    torch.save(held, tmp_path / "w.pth")
    assert is_state(load(tmp_path / "w.pth"))
    said = caplog.text
    assert f"weights from {prefix} ({len(STATE)}); left out: {', '.join(left)}\n" in said


def test_a_teacher_of_another_size_is_no_candidate(tmp_path: Path) -> None:
    large = {name: torch.zeros(*(2 * side for side in value.shape)) for name, value in STATE.items()}
    torch.save({"teacher": large, "student": STATE}, tmp_path / "w.pth")
    assert is_state(load(tmp_path / "w.pth"))


def test_two_encoders_that_nothing_tells_apart_are_refused(tmp_path: Path) -> None:
    torch.save({"one": STATE, "two": OTHER}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match="contains several encoders of this model: one and two"):
        load(tmp_path / "w.pth")
    torch.save({"one": STATE, "two": STATE}, tmp_path / "w.pth")
    assert is_state(load(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"depth": 3},
            r"under 'teacher\.backbone', 12 weights missing, 0 unknown \(such as blocks\.2\.norm1",
        ),
        (
            {"depth": 1},
            r"under 'teacher\.backbone', 0 weights missing, 12 unknown \(such as blocks\.1\.norm1",
        ),
        ({"embed_dim": 24}, r"cls_token has shape \(1, 1, 12\), but the model needs \(1, 1, 24\)"),
        ({"reg_tokens": 4}, r"1 weights missing, 0 unknown \(such as reg_token\)"),
        ({"class_token": False, "global_pool": "avg"}, r"1 weights missing|unknown"),
    ],
)
def test_what_does_not_fit_is_named_with_its_prefix(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    torch.save({"teacher": under("backbone", STATE)}, tmp_path / "w.pth")
    options = ",".join(f"{name}={value}" for name, value in (SMALL | changes).items())
    with pytest.raises(EncoderError, match=f"does not fit the model: .*{message}"):
        load(tmp_path / "w.pth", options)


@pytest.mark.parametrize("name", ["epoch=3,step=5.ckpt", "epoch=3-val_loss=0.12.ckpt", "a, b.pth"])
def test_names_of_files_may_hold_commas(tmp_path: Path, name: str) -> None:
    torch.save(STATE, tmp_path / name)
    assert is_state(load(tmp_path / name))
    encoder = load_encoder(f"timm:{TINY},weights={tmp_path / name},{OPTIONS}")
    assert is_state(encoder.model.state_dict())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 3\n", "a Git-LFS pointer"),
        (b"\n<!DOCTYPE html>\n<html>", "a web page"),
        (b"\x01" * 400, "cannot be read as weights"),
        (b"PK\x03\x04" + b"\x01" * 400, "cannot be read as weights"),
    ],
)
@pytest.mark.parametrize("place", ["file.pth", "file.safetensors", "timm", "hf"])
def test_what_are_no_weights_is_named_everywhere(
    tmp_path: Path, data: bytes, message: str, place: str
) -> None:
    spec = prepare(tmp_path, place, STATE)
    file = tmp_path / place if "." in place else tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(EncoderError, match=f"{file.name}: {message}"):
        load_encoder(spec)


@pytest.mark.parametrize("place", ["file.pth", "file.safetensors", "timm", "hf", "run"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_everywhere(tmp_path: Path, place: str, value: float) -> None:
    bad = STATE | {"blocks.1.norm1.bias": torch.full((12,), value)}
    spec = prepare(tmp_path, place, bad)
    with pytest.raises(EncoderError, match=r"not finite, first blocks\.1\.norm1\.bias .*weights are damaged"):
        load_encoder(spec)
    encoder = ViT(EncoderConfig(name=TINY, patch_px=8, width=12, depth=2, heads=3), 32)
    for start in (spec, *([str(tmp_path / place)] if "." in place else [])):
        with pytest.raises(EncoderError, match="not finite"):
            initialise(encoder, start)


def prepare(folder: Path, place: str, state: dict[str, Tensor]) -> str:
    """Write weights where each kind of spec has them, and return the spec."""
    if place == "file.pth":
        torch.save(state, folder / place)
    elif place == "file.safetensors":
        save_file(state, folder / place)
    if "." in place:
        return f"timm:{TINY},{OPTIONS},weights={folder / place}"
    if place == "hf":
        config: dict[str, Any] = {
            "hidden_size": 12,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "image_size": 32,
        }
        config |= {"model_type": "vit", "patch_size": 8, "intermediate_size": 48}
        (folder / "preprocessor_config.json").write_text(
            json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3})
        )
        state = to_hf(state, "vit")
    else:
        normalisation = {"mean": [0.5] * 3, "std": [0.5] * 3, "input_size": [3, 32, 32]}
        config = {"architecture": TINY, "model_args": SMALL, "pretrained_cfg": normalisation}
    place_of = folder / "encoder" if place == "run" else folder
    place_of.mkdir(exist_ok=True)
    (place_of / "config.json").write_text(json.dumps(config))
    save_file(state, place_of / "model.safetensors")
    return str(folder) if place == "run" else f"{place}:{folder}"


@pytest.mark.parametrize("prefix", ["vit.", "model.vit.", ""])
def test_hugging_face_folders_with_heads(tmp_path: Path, prefix: str) -> None:
    spec = prepare(tmp_path, "hf", STATE)
    state = {f"{prefix}{name}": value for name, value in to_hf(STATE, "vit").items()}
    save_file(state | {"classifier.weight": torch.zeros(2, 12)}, tmp_path / "model.safetensors")
    assert is_state(load_encoder(spec).model.state_dict())


@pytest.mark.parametrize("text", ["[]", "{", "[" * 100_000, '{"model_type": "vit", "hidden_size": 0}'])
@pytest.mark.parametrize("place", ["hf", "timm"])
def test_damaged_configs_are_named(tmp_path: Path, place: str, text: str) -> None:
    spec = prepare(tmp_path, place, STATE)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(EncoderError, match=r"config\.json|a model of type None"):
        load_encoder(spec)


def test_a_damaged_preprocessor_is_not_passed_over(tmp_path: Path) -> None:
    spec = prepare(tmp_path, "hf", STATE)
    for text in ("{", '{"image_mean": [0.5], "image_std": [0.5]}'):
        (tmp_path / "preprocessor_config.json").write_text(text)
        with pytest.raises(EncoderError, match=r"preprocessor_config\.json: damaged"):
            load_encoder(spec)
