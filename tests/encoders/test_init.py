"""Starting weights from every source: the same features, or a list of what is not the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from dirl.config import EncoderConfig
from dirl.core.errors import EncoderError
from dirl.encoders.huggingface import to_hf
from dirl.encoders.loading import embed_images, load_encoder
from dirl.encoders.pretrained import initialise
from dirl.encoders.vit import ViT

TINY = "vit_tiny_patch16_224"
SMALL: dict[str, Any] = {"embed_dim": 48, "depth": 2, "num_heads": 3, "patch_size": 8}


def target(view_px: int = 32, name: str = TINY, **changes: object) -> ViT:
    torch.manual_seed(11)
    config = EncoderConfig(name=name, **({"patch_px": 8, "width": 48, "depth": 2, "heads": 3} | changes))
    return ViT(config, view_px).eval()


def source(seed: int = 5, **arguments: Any) -> Any:
    torch.manual_seed(seed)
    model = timm.create_model(TINY, num_classes=0, **(SMALL | {"img_size": 32} | arguments)).eval()
    for parameter in model.parameters():  # no zeros and ones by which a wrong place goes unseen
        nn.init.normal_(parameter, std=0.2)
    return model


def write_run(model: nn.Module, folder: Path, **arguments: object) -> str:
    encoder = folder / "encoder"
    encoder.mkdir(parents=True)
    config = {
        "architecture": TINY,
        "model_args": SMALL | {"img_size": 32} | arguments,
        "pretrained_cfg": {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "input_size": [3, 32, 32]},
    }
    (encoder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), encoder / "model.safetensors")
    return str(folder)


def features(encoder: ViT, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return encoder.vit.forward_features(images)[:, [0, *range(-16, 0)]]  # class and patch tokens


def same(encoder: ViT, model: Any) -> None:
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model.forward_features(images)[:, [0, *range(-16, 0)]]
    torch.testing.assert_close(features(encoder, images), expected, atol=1e-5, rtol=1e-5)


def test_a_run(tmp_path: Path) -> None:
    model, encoder = source(), target()
    report = initialise(encoder, write_run(model, tmp_path / "run"))
    same(encoder, model)
    assert not report.missing and not report.unexpected and not report.resampled
    assert set(report.loaded) == set(encoder.vit.state_dict())
    assert report.normalisation == ((0.7, 0.5, 0.6), (0.2, 0.2, 0.2))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timm_with_a_file(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(3)
    model: Any = timm.create_model(TINY).eval()
    path = tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save({"model": model.state_dict()}, path)
    else:
        save_file(model.state_dict(), path)
    encoder = target(224, patch_px=None, width=None, depth=None, heads=None)
    report = initialise(encoder, f"timm:{TINY},weights={path}")
    assert not report.missing and not report.unexpected and not report.resampled
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = model.forward_features(images)
        torch.testing.assert_close(encoder.vit.forward_features(images), expected)


def test_a_bare_file_reports_what_is_left_over(tmp_path: Path) -> None:
    model = source()
    state = model.state_dict() | {"head.weight": torch.ones(3, 48), "head.bias": torch.ones(3)}
    del state["norm.bias"]
    save_file(state, tmp_path / "w.safetensors")
    encoder = target()
    kept = encoder.vit.norm.bias.detach().clone()
    report = initialise(encoder, str(tmp_path / "w.safetensors"))
    assert report.unexpected == ("head.bias", "head.weight")
    assert report.missing == ("norm.bias",) and torch.equal(encoder.vit.norm.bias, kept)
    assert "norm.bias" not in report.loaded and report.normalisation is None


def test_positions_are_resampled_to_the_grid(tmp_path: Path) -> None:
    model = source()
    spec = write_run(model, tmp_path / "run")
    encoder = target(64)
    report = initialise(encoder, spec)
    assert report.resampled == ("pos_embed",)
    ours, theirs = encoder.vit.pos_embed.detach(), model.pos_embed.detach()
    torch.testing.assert_close(ours[:, :1], theirs[:, :1])
    # A plane stays one, away from the border where the filter is cut off.
    smooth = torch.arange(16.0).view(1, 16, 1).expand(1, 16, 48).clone()
    with torch.no_grad():
        model.pos_embed[:, 1:] = smooth
    spec = write_run(model, tmp_path / "smooth")
    initialise(encoder, spec)
    grid = encoder.vit.pos_embed[0, 1:, 0].view(8, 8)
    torch.testing.assert_close(grid, -grid.flip(0, 1) + 15, atol=1e-4, rtol=0)
    torch.testing.assert_close(grid[2:-2, 2:-2].diff(dim=1), torch.full((4, 3), 0.5), atol=0.15, rtol=0)
    assert (grid.diff(dim=0) > 0).all()


def test_the_patch_kernel_is_resampled(tmp_path: Path) -> None:
    """A kernel of 8 px made one of 16 sees in an image twice as large what it saw before."""
    model = source()
    encoder = target(64, patch_px=16)
    report = initialise(encoder, write_run(model, tmp_path / "run"))
    assert report.resampled == ("patch_embed.proj.weight",)
    small = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4), size=(32, 32), mode="bicubic")
    large = torch.nn.functional.interpolate(small, size=(64, 64), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = model.forward_features(small)
        difference = (encoder.vit.forward_features(large) - expected).norm() / expected.norm()
    assert difference < 0.05


def test_registers_come_and_go(tmp_path: Path) -> None:
    """Weights without registers go into an encoder with, and the other way; positions follow their token."""
    plain = write_run(source(), tmp_path / "plain")
    encoder = target(name="vit_small_patch14_reg4_dinov2")
    assert encoder.vit.no_embed_class and encoder.vit.num_prefix_tokens == 5
    report = initialise(encoder, plain)
    assert report.missing == ("reg_token",) and not report.unexpected
    assert "cls_token" in report.resampled and "blocks.0.ls1.gamma" in report.resampled
    model = source()
    torch.testing.assert_close(encoder.vit.cls_token, model.cls_token + model.pos_embed[:, :1])
    torch.testing.assert_close(encoder.vit.pos_embed, model.pos_embed[:, 1:])

    for arguments in ({"reg_tokens": 4}, {"reg_tokens": 4, "no_embed_class": True}):
        folder = tmp_path / "-".join(arguments)
        with_registers = write_run(source(**arguments), folder, **arguments)
        assert initialise(target(), with_registers).unexpected == ("reg_token",)
        for encoder in (target(name="vit_small_patch14_reg4_dinov2"), target(registers=4)):
            report = initialise(encoder, with_registers)
            assert not report.missing and not report.unexpected
            same(encoder, source(**arguments))
        other = target(registers=2)
        own = other.vit.reg_token.detach().clone()
        report = initialise(other, with_registers)
        assert report.missing == report.unexpected == ("reg_token",)
        assert torch.equal(other.vit.reg_token, own)


@pytest.mark.parametrize("embed_class", [True, False])
def test_layouts_of_positions_say_the_same(tmp_path: Path, embed_class: bool) -> None:
    arguments = {"no_embed_class": not embed_class}
    encoder = target()
    initialise(encoder, write_run(source(**arguments), tmp_path / "run", **arguments))
    same(encoder, source(**arguments))


def test_layer_scale_is_folded_or_one(tmp_path: Path) -> None:
    scaled = source(init_values=0.1)
    encoder = target()
    report = initialise(encoder, write_run(scaled, tmp_path / "scaled", init_values=0.1))
    assert not report.missing and not report.unexpected
    assert "blocks.1.mlp.fc2.weight" in report.resampled
    same(encoder, scaled)


KINDS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "vit": ("ViT", {}, {"intermediate_size": 192}),
    "dinov2": ("Dinov2", {"init_values": 1.0}, {}),
    "dinov2_with_registers": ("Dinov2WithRegisters", {"init_values": 1.0}, {"num_register_tokens": 4}),
}
HF = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 32, "patch_size": 8}


@pytest.mark.filterwarnings("ignore:.*no preprocessor_config")
@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_models_with_transformers(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    name, _, more = KINDS[kind]
    torch.manual_seed(4)
    config = getattr(transformers, f"{name}Config")(**HF, **more, layer_norm_eps=1e-6)
    model = getattr(transformers, f"{name}Model")(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).last_hidden_state[:, [0, *range(-16, 0)]]
    scaled = kind != "vit"
    dinov2: dict[str, Any] = (
        {"name": "vit_small_patch14_reg4_dinov2"} if kind == "dinov2_with_registers" else {}
    )
    for encoder in (target(), target(**dinov2)):
        report = initialise(encoder, f"hf:{tmp_path}")
        assert not report.missing
        if kind != "dinov2_with_registers" or dinov2.get("name") == encoder.architecture:
            assert not report.unexpected
            torch.testing.assert_close(features(encoder, images), expected, atol=1e-5, rtol=1e-5)
        assert bool(report.resampled) == (kind == "dinov2" or (scaled and encoder.architecture == TINY))
    loaded = load_encoder(f"hf:{tmp_path}")
    raw = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (loaded.mean, loaded.std))
    with torch.no_grad():
        state = model((raw / 255 - mean) / std).last_hidden_state[:, 0]
    torch.testing.assert_close(embed_images(loaded, raw), state, atol=1e-5, rtol=1e-5)
    # A bare file of the same names, without its config.
    if kind == "vit":
        encoder = target()
        report = initialise(encoder, str(tmp_path / "model.safetensors"))
        assert not report.missing
        assert report.unexpected == ("pooler.dense.bias", "pooler.dense.weight")
        torch.testing.assert_close(features(encoder, images), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:.*no preprocessor_config")
@pytest.mark.parametrize("kind", ["Dinov2", "Dinov2WithRegisters"])
def test_hugging_face_models_with_swiglu(tmp_path: Path, kind: str) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    model = getattr(transformers, f"{kind}Model")(
        getattr(transformers, f"{kind}Config")(**HF, use_swiglu_ffn=True)
    ).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(tmp_path)
    loaded = load_encoder(f"hf:{tmp_path}")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).last_hidden_state
        loaded_model: Any = loaded.model
        torch.testing.assert_close(loaded_model.forward_features(images), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(EncoderError, match="another architecture"):
        initialise(target(), f"hf:{tmp_path}")


def write_hf(folder: Path, kind: str = "vit", **changes: object) -> str:
    _, arguments, more = KINDS[kind]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": kind} | HF | more | changes))
    save_file(to_hf(source(**arguments).state_dict(), kind), folder / "model.safetensors")
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})
    )
    return f"hf:{folder}"


def test_hugging_face_folder_without_transformers(tmp_path: Path) -> None:
    encoder = target()
    spec = write_hf(tmp_path / "vit")
    report = initialise(encoder, spec)
    same(encoder, source())
    assert not report.missing and not report.unexpected and not report.resampled
    assert report.normalisation == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_bare_dinov2_file_of_its_authors_names(tmp_path: Path) -> None:
    """There the class token has a position and the registers have none."""
    model = source(reg_tokens=4, no_embed_class=True, init_values=1.0)
    state = model.state_dict() | {"mask_token": torch.zeros(1, 48)}
    state["register_tokens"] = state.pop("reg_token")
    position = torch.randn(1, 1, 48)
    state["cls_token"] = state["cls_token"] - position
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    save_file(state, tmp_path / "dinov2.safetensors")
    encoder = target(name="vit_small_patch14_reg4_dinov2")
    report = initialise(encoder, str(tmp_path / "dinov2.safetensors"))
    assert report.unexpected == ("mask_token",) and not report.missing
    same(encoder, model)


@pytest.mark.parametrize(
    ("changes", "there"),
    [
        (
            {"depth": 3},
            "weights have 3 blocks of width 48 with an MLP of 192 and 3 heads, the model has 2",
        ),
        ({"embed_dim": 24}, "the weights have 2 blocks of width 24 .* the model has 2 blocks of width 48"),
        ({"num_heads": 6}, "6 heads, .* 3 heads"),
        ({"mlp_ratio": 2}, "MLP of 96 .* MLP of 192"),
    ],
)
def test_another_architecture_is_named(tmp_path: Path, changes: dict[str, Any], there: str) -> None:
    spec = write_run(source(**changes), tmp_path / "run", **changes)
    with pytest.raises(EncoderError, match=there):
        initialise(target(), spec)


def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EncoderError, match="no such file"):
        initialise(target(), str(tmp_path / "absent.safetensors"))
    with pytest.raises(EncoderError, match="no such folder"):
        initialise(target(), f"hf:{tmp_path / 'absent'}")
    with pytest.raises(EncoderError, match=r"'bert'.*there are: vit, dinov2"):
        initialise(target(), write_hf(tmp_path / "bert", model_type="bert"))
    with pytest.raises(EncoderError, match=r"MLP of 192, .* MLP of 256"):  # of SwiGLU
        initialise(target(), write_hf(tmp_path / "giant", "dinov2", use_swiglu_ffn=True))
    with pytest.raises(EncoderError, match=r"1 weights missing, 0 unknown \(such as reg_token"):
        initialise(target(), write_hf(tmp_path / "short", "dinov2", model_type="dinov2_with_registers"))
    save_file({"blocks.0.mlp.w12.weight": torch.ones(2), "x": torch.ones(1)}, tmp_path / "g.safetensors")
    with pytest.raises(EncoderError, match="SwiGLU"):
        initialise(target(), str(tmp_path / "g.safetensors"))
    save_file({"conv1.weight": torch.ones(2)}, tmp_path / "c.safetensors")
    with pytest.raises(EncoderError, match="not a plain ViT's"):
        initialise(target(), str(tmp_path / "c.safetensors"))

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    with pytest.raises(EncoderError, match=r"no route.*download config.json .*pass hf:FOLDER"):
        initialise(target(), "hf:facebook/dinov2-small")
