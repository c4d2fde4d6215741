"""Encoders by name: what loads, what it loads to, and what is said when it does not."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from dirl.core.errors import EncoderError, UserError
from dirl.encoders.loading import embed_images, load_encoder, preprocess, resize

ARGUMENTS: dict[str, Any] = {"img_size": 64, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3}
TINY = "vit_tiny_patch16_224"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    model = timm.create_model(TINY, num_classes=0, dynamic_img_size=True, **ARGUMENTS)
    folder = tmp_path / "vanilla" / "encoder"
    folder.mkdir(parents=True)
    config = {
        "architecture": TINY,
        "num_classes": 0,
        "num_features": 48,
        "model_args": ARGUMENTS,
        "pretrained_cfg": {"mean": [0.7, 0.5, 0.6], "std": [0.2, 0.2, 0.2], "input_size": [3, 64, 64]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(model.state_dict(), folder / "model.safetensors")
    return folder.parent


def test_a_run(run: Path) -> None:
    encoder = load_encoder(str(run))
    assert (encoder.name, encoder.patch_px, encoder.input_px, encoder.run) == ("vanilla", 8, None, run)
    assert not encoder.model.training
    assert encoder.token_grid(100) == (12, 12)
    assert encoder.token_um(224, mpp=0.5) == 4.0
    saved = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True, dynamic_img_size=True).eval()
    images = torch.randint(0, 256, (2, 3, 100, 100), dtype=torch.uint8)
    expected = saved((images[..., 2:98, 2:98] / 255 - torch.tensor([0.7, 0.5, 0.6]).view(3, 1, 1)) / 0.2)
    torch.testing.assert_close(embed_images(encoder, images), expected.detach())
    torch.testing.assert_close(embed_images(encoder, images.float() / 255), expected.detach())


def test_randomised_is_the_architecture_and_not_the_weights(run: Path) -> None:
    encoder = load_encoder(str(run))
    first, again, other = encoder.randomised(1), encoder.randomised(1), encoder.randomised(2)
    assert first.digest == again.digest
    assert len({encoder.digest, first.digest, other.digest}) == 3
    assert first.patch_px == 8 and first.run is None
    shapes = {key: value.shape for key, value in encoder.model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in first.model.state_dict().items()}


def test_making_a_model_leaves_the_random_state_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_encoder(f"timm:{TINY},weights=random")
    torch.testing.assert_close(torch.rand(3), expected)


def test_timm_with_local_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("vit_tiny_patch16_224")  # with its classifier, as files of the hub are
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    torch.save({"model": model.state_dict(), "epoch": 3}, tmp_path / "weights.pth")
    model.reset_classifier(0)
    images = torch.randint(0, 256, (1, 3, 96, 96), dtype=torch.uint8)
    for name in ("weights.safetensors", "weights.pth"):
        encoder = load_encoder(f"timm:{TINY},weights={tmp_path / name}")
        assert encoder.input_px == 224 and encoder.name == f"{TINY} (weights)"
        assert encoder.token_um(96, mpp=0.5) == pytest.approx(16 * 0.5 * 96 / 224)
        with torch.no_grad():
            expected = model.eval()(preprocess(encoder, images))
        torch.testing.assert_close(embed_images(encoder, images), expected)


# As UNI, UNI2-h, Virchow2 and H-optimus-0 are made, but small.
SMALL = "embed_dim=48,depth=2,num_heads=3"
SWIGLU = "mlp_layer=SwiGLUPacked,act_layer=silu,mlp_ratio=5.33334"
PATHOLOGY = {
    "vit_large_patch16_224": f"init_values=1e-5,dynamic_img_size=true,{SMALL}",
    "vit_giant_patch14_224": f"init_values=1e-5,no_embed_class=true,reg_tokens=8,{SWIGLU},{SMALL}",
    "vit_huge_patch14_224": f"init_values=1e-5,reg_tokens=4,{SWIGLU},{SMALL}",
    "vit_giant_patch14_reg4_dinov2": f"init_values=1e-5,img_size=224,mlp_ratio=5.33334,{SMALL}",
}


@pytest.mark.parametrize("name", PATHOLOGY)
def test_timm_with_options(name: str, tmp_path: Path) -> None:
    encoder = load_encoder(f"timm:{name},weights=random,{PATHOLOGY[name]}")
    first_block: Any = encoder.model.get_submodule("blocks.0")
    assert encoder.name == f"{name} (random)"
    assert encoder.input_px == (None if "dynamic" in PATHOLOGY[name] else 224)
    assert first_block.ls1.gamma[0] == pytest.approx(1e-5)
    if "SwiGLU" in PATHOLOGY[name] or "dinov2" in name:
        assert type(first_block.mlp).__name__ == "GluMlp"
    save_file(encoder.model.state_dict(), tmp_path / "w.safetensors")
    again = load_encoder(f"timm:{name},{PATHOLOGY[name]},weights={tmp_path / 'w.safetensors'}")
    assert again.digest == encoder.digest and again.name == f"{name} (w)"
    assert encoder.randomised(0).digest == encoder.digest  # the options travel


def test_timm_folder(run: Path, tmp_path: Path) -> None:
    folder = run / "encoder"
    encoder = load_encoder(f"timm:{folder}")
    assert (encoder.name, encoder.input_px, encoder.mean) == ("encoder", 64, (0.7, 0.5, 0.6))
    assert encoder.digest == load_encoder(str(run)).digest
    assert load_encoder(f"timm:{folder},dynamic_img_size=true").input_px is None
    assert load_encoder(f"timm:{folder},weights=random").name == "encoder (random)"
    state = encoder.model.state_dict()
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"contains no weights.*pytorch_model.bin"):
        load_encoder(f"timm:{folder}")
    torch.save(state, folder / "pytorch_model.bin")
    assert load_encoder(f"timm:{folder}").digest == encoder.digest


def test_hugging_face_without_weights(tmp_path: Path) -> None:
    config = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3, "image_size": 28}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov2", "patch_size": 14} | config))
    with pytest.warns(UserWarning, match=r"no preprocessor_config\.json .* with the mean \(0\.485"):
        load_encoder(f"hf:{tmp_path},weights=random")
    normalisation = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(normalisation))
    encoder = load_encoder(f"hf:{tmp_path},weights=random")
    assert encoder.name == f"{tmp_path.name} (random)" and encoder.patch_px == 14
    with pytest.raises(EncoderError, match=r"contains no model\.safetensors"):
        load_encoder(f"hf:{tmp_path}")
    with pytest.raises(EncoderError, match="unknown option 'depth=3'"):
        load_encoder(f"hf:{tmp_path},depth=3")


def test_the_patches_of_a_hybrid() -> None:
    encoder = load_encoder("timm:vit_tiny_r_s16_p8_224,weights=random,depth=1")
    assert encoder.patch_px == 32 and encoder.token_grid(224) == (7, 7)


def test_fit_resizes_images_and_labels_alike() -> None:
    encoder = load_encoder(f"timm:{TINY},weights=random")
    labels = torch.zeros(1, 112, 112, dtype=torch.int32)
    labels[:, 56:, 28:] = 16_777_217  # needs more digits than float32 has
    image = (labels != 0).float().expand(3, -1, -1)[None]
    resized = resize(encoder, labels)
    assert resized.shape == (1, 224, 224)
    assert set(resized.unique().tolist()) == {0, 16_777_217}
    inside = resize(encoder, image)[0, 0] > 0.5
    assert torch.equal(inside, resized[0] != 0)


def test_fit_crops_to_whole_patches_about_the_centre(run: Path) -> None:
    encoder = load_encoder(str(run))
    labels = torch.arange(30 * 26).view(1, 30, 26)
    assert torch.equal(resize(encoder, labels), labels[:, 3:27, 1:25])
    with pytest.raises(EncoderError, match="smaller than a patch"):
        resize(encoder, labels[:, :6])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:vit_smal_patch16_224", "did you mean .*vit_small_patch16_224"),
        ("timm:vit_tiny_patch16_224,depth", "option 'depth' is not of the form key=value"),
        ("timm:vit_tiny_patch16_224,weights=", "not of the form"),
        ("timm:vit_tiny_patch16_224,weights=absent.safetensors", "absent.safetensors: no such file"),
        ("timm:vit_tiny_patch16_224,weights=random,mlp_layer=Nope", "no mlp_layer 'Nope'.*SwiGLUPacked"),
        ("timm:vit_tiny_patch16_224,weights=random,nope=3", "takes no option nope"),
        ("timm:vit_tiny_patch16_224,weights=random,global_pool=", "not of the form"),
        (
            "timm:vit_tiny_patch16_224,weights=random,global_pool=''",
            "of an embedding .global_pool is empty",
        ),
        ("timm:resnet18,weights=random", "not a vision transformer"),
        ("timm:vit_tiny_patch16_224.nobody_in1k", "no pretrained weights 'nobody_in1k'"),
        ("hf:nowhere", "no such folder"),
        ("nowhere", "there are: a name of .dirl encoders., a run's directory.*timm:DIR, hf:NAME_OR_DIR"),
    ],
)
def test_what_cannot_be_loaded(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_encoder(spec)


def test_a_directory_without_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"contains no encoder.*`dirl pretrain`"):
        load_encoder(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=f"for a downloaded model write timm:{tmp_path} or hf:"):
        load_encoder(str(tmp_path))


def test_damaged_runs(run: Path) -> None:
    weights = run / "encoder" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderError, match="cannot be read as weights"):
        load_encoder(str(run))
    other = timm.create_model(TINY, num_classes=0, **(ARGUMENTS | {"depth": 3}))
    save_file(other.state_dict(), weights)
    with pytest.raises(EncoderError, match="0 weights missing, 12 unknown"):
        load_encoder(str(run))
    save_file({"blocks.0.norm1.weight": torch.ones(48)}, weights)
    with pytest.raises(EncoderError, match="does not fit"):
        load_encoder(str(run))
    (run / "encoder" / "config.json").write_text("{")
    with pytest.raises(EncoderError, match=r"config.json: damaged"):
        load_encoder(str(run))


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model": Path("x")}, tmp_path / "weights.pth")
    with pytest.raises(EncoderError, match=r"contains an object of type pathlib\.PosixPath.*state_dict"):
        load_encoder(f"timm:{TINY},weights={tmp_path / 'weights.pth'}")


def test_an_unreachable_hub_says_which_file_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("dirl.encoders.timm_models.timm.create_model", unreachable)
    with pytest.raises(EncoderError, match=r"no route.*download .*timm/vit_tiny_patch16_224\S+.*weights="):
        load_encoder(f"timm:{TINY}")
