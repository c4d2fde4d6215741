"""Exports: the same tokens in every format, a model card that says what they are, and no pickle."""

import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from typer.testing import CliRunner

import dirl
from dirl.cli.main import app
from dirl.config import PretrainRecipe
from dirl.core.card import note_change
from dirl.core.errors import ConfigError, DirlError, EncoderError, StoreError
from dirl.core.owner import content
from dirl.encoders.loading import LoadedEncoder, embed_images, load_encoder, preprocess
from dirl.encoders.vit import new_plain_vit
from dirl.export.formats import class_and_patch_tokens
from dirl.export.model_card import describe_arm
from dirl.export.run import FORMATS, export

DINOV2 = {"name": "vit_small_patch14_dinov2"}
REGISTERS = {"name": "vit_small_patch14_reg4_dinov2"}
ARCHITECTURES = {"vit": {}, "dinov2": DINOV2, "dinov2_with_registers": REGISTERS}
MakeRun = Callable[..., Path]


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def holds_no_pickle(folder: Path) -> None:
    for file in folder.rglob("*"):
        assert file.suffix in {".json", ".md", ".safetensors", ".onnx"}, file
        assert not zipfile.is_zipfile(file) and file.read_bytes()[:1] != b"\x80"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_timm_gives_the_same_embeddings(make_run: MakeRun, tmp_path: Path, architecture: str) -> None:
    run = make_run(**ARCHITECTURES[architecture])
    done = export(run, tmp_path / "out", to="timm")
    assert done.differences == {"timm": 0.0}
    encoder = load_encoder(str(run))
    model = timm.create_model(f"local-dir:{done.path}", pretrained=True).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        close(model(preprocess(encoder, images)), embed_images(encoder, images))
    holds_no_pickle(done.path)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    tile_px=st.integers(8, 70), patch_px=st.sampled_from([4, 7, 8]), seed=st.integers(0, 99), data=st.data()
)
def test_timms_own_transform_gives_the_same_pixels(
    make_run: MakeRun, tmp_path: Path, tile_px: int, patch_px: int, seed: int, data: st.DataObject
) -> None:
    mean = data.draw(st.tuples(*[st.floats(0.1, 0.9)] * 3))
    views = patch_px * 4
    run = make_run(
        f"{tile_px}-{patch_px}-{seed}-{hash(mean)}",
        tile_px=tile_px,
        view_px=views,
        patch_px=patch_px,
        mean=mean,
    )
    pixels = np.random.default_rng(seed).integers(0, 256, (tile_px, tile_px, 3), dtype=np.uint8)
    encoder = load_encoder(str(run))
    expected = preprocess(encoder, torch.from_numpy(pixels).permute(2, 0, 1)[None])
    model = timm.create_model(f"local-dir:{run / 'encoder'}", pretrained=True).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    found = transform(Image.fromarray(pixels))[None]
    assert torch.equal(found, expected)
    with torch.no_grad():
        close(model(found), encoder.embed(expected))


def test_the_exported_model_carries_the_transform(make_run: MakeRun, tmp_path: Path) -> None:
    done = export(make_run(tile_px=48), tmp_path / "out", to="timm")
    model = timm.create_model(f"local-dir:{done.path}", pretrained=True)
    found = timm.data.resolve_model_data_config(model)
    assert (found["input_size"], found["crop_pct"], found["interpolation"]) == ([3, 48, 48], 1.0, "bilinear")
    assert (
        "For tiles of 48 px, this transform changes no pixel; it crops"
        in (done.path / "README.md").read_text()
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_hf_gives_the_same_embeddings(make_run: MakeRun, tmp_path: Path, architecture: str) -> None:
    run = make_run(**ARCHITECTURES[architecture])
    done = export(run, tmp_path / "out", to="hf")
    assert max(done.differences.values()) < 1e-5
    images = torch.rand(2, 3, 48, 48)
    expected = embed_images(load_encoder(str(run)), images)
    again = load_encoder(f"hf:{done.path}")
    close(embed_images(again, images), expected)
    assert (again.mean, again.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    config = json.loads((done.path / "config.json").read_text())
    assert config["model_type"] == ("dinov2" if architecture == "vit" else architecture)
    holds_no_pickle(done.path)


@pytest.mark.parametrize("tile_px", [48, 53])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_reads_it_whole_and_pools_the_class_token(
    make_run: MakeRun,
    tmp_path: Path,
    architecture: str,
    tile_px: int,
    recwarn: pytest.WarningsRecorder,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    transformers = pytest.importorskip("transformers")
    run = make_run(tile_px=tile_px, **ARCHITECTURES[architecture])
    done = export(run, tmp_path / "out", to="hf")
    assert set(done.differences) == {"dirl", "transformers"}
    capsys.readouterr()
    model, found = transformers.AutoModel.from_pretrained(done.path, output_loading_info=True)
    assert not found["missing_keys"] and not found["unexpected_keys"] and not found["mismatched_keys"]
    said = "".join(capsys.readouterr()) + caplog.text + "".join(str(one.message) for one in recwarn)
    assert "newly initialized" not in said and "should probably TRAIN" not in said
    pixels = torch.randint(0, 256, (2, 3, tile_px, tile_px), dtype=torch.uint8)
    processor = transformers.AutoImageProcessor.from_pretrained(done.path)
    prepared = processor(list(pixels), return_tensors="pt")
    encoder = load_encoder(str(run))
    close(prepared["pixel_values"], preprocess(encoder, pixels))
    with torch.no_grad():
        state = model.eval()(**prepared)
    close(state.pooler_output, embed_images(encoder, pixels))
    close(state.last_hidden_state[:, 0], state.pooler_output)
    patches = class_and_patch_tokens(encoder.timm, preprocess(encoder, pixels))[:, 1:]
    close(state.last_hidden_state[:, -patches.shape[1] :], patches)


@pytest.mark.parametrize("architecture", ["vit", "dinov2_with_registers"])
def test_onnx_gives_the_same_tokens_for_any_batch_and_size(
    make_run: MakeRun, tmp_path: Path, architecture: str
) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    run = make_run(mean=(0.7, 0.5, 0.6), **ARCHITECTURES[architecture])
    done = export(run, tmp_path / "out", to="onnx")
    session = runtime.InferenceSession(done.path / "model.onnx")
    encoder = load_encoder(str(run))
    sizes = [(1, 32, 32), (5, 32, 32), (2, 48, 96), (1, 8, 16), (2, 224, 224), (1, 35, 47), (3, 33, 38)]
    for count, height, width in sizes:
        images = torch.rand(count, 3, height, width)
        cls, patches = session.run(None, {"images": images.numpy()})
        expected = class_and_patch_tokens(encoder.timm, preprocess(encoder, images))
        close(torch.from_numpy(cls), expected[:, 0])
        close(torch.from_numpy(patches), expected[:, 1:])
    found = session.get_modelmeta().custom_metadata_map
    facts = {key: json.loads(found[key]) for key in ("mean", "std", "mpp", "patch_px", "tile_px", "range")}
    assert facts == {
        "mean": [0.7, 0.5, 0.6], "std": [0.5] * 3, "mpp": 0.5, "patch_px": 8, "tile_px": 48, "range": [0, 1],
    }  # fmt: skip
    assert (found["pooling"], found["dirl_version"]) == ("class token", dirl.__version__)
    holds_no_pickle(done.path)


def test_hf_needs_no_transformers(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert set(export(make_run(), tmp_path / "out", to="hf").differences) == {"dirl"}


def test_registers_without_layer_scale_and_with_positions(make_run: MakeRun, tmp_path: Path) -> None:
    """What no class of transformers has as it is, written so that it says the same."""
    run = make_run()
    config = json.loads((run / "encoder" / "config.json").read_text())
    config["model_args"] |= {"reg_tokens": 3}
    (run / "encoder" / "config.json").write_text(json.dumps(config))
    model = new_plain_vit(config["architecture"], config["model_args"])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_file(model.state_dict(), run / "encoder" / "model.safetensors")
    note_change(run, "encoder/config.json", "encoder/model.safetensors")
    done = export(run, tmp_path / "out", to="hf")
    assert json.loads((done.path / "config.json").read_text())["num_register_tokens"] == 3
    assert max(done.differences.values()) < 1e-5


def test_the_model_card(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    done = export(run, tmp_path / "out", to="timm", licence="cc-by-4.0")
    _, front, text = (done.path / "README.md").read_text().split("---\n", 2)
    facts = yaml.safe_load(front)
    assert facts["license"] == "cc-by-4.0" and facts["library_name"] == "timm" and "dirl" in facts["tags"]
    for said in (
        "0123456789abcdef", "c0ffee", "simclr", "| Arm | control (", "control shuffled",
        "| loss | 2.25 |", "| gate | 0.5 |",
        "Not for diagnosis", "size_px: 32", "cc-by-4.0, as stated",
        "views of 32 px", "| 0.5 µm/px |",
    ):  # fmt: skip
        assert said in text
    unknown = export(run, tmp_path / "unknown", to="timm").path / "README.md"
    facts = yaml.safe_load(unknown.read_text().split("---\n")[1])
    assert (facts["license"], facts["license_name"]) == ("other", "unknown")
    assert "was not stated" in unknown.read_text()


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        ({"weight": 0}, "vanilla"),
        ({"match": "overlap"}, "dirl (extract cls, regions cells, match overlap, weight 1)"),
        (
            {"weight": 0.5, "extract": "pool", "regions": "grid", "match": "semantic", "control": "one"},
            "control (extract pool, regions grid, match semantic, weight 0.5, control one)",
        ),
        (
            {"regions": "tissue", "control": "matched-grid"},
            "control (extract cls, regions tissue, match semantic, weight 1, control matched-grid)",
        ),
        ({"regions": "grid"}, "control (extract cls, regions grid, match semantic, weight 1)"),
        ({"control": "shuffled"}, "control (extract cls, regions cells, match semantic, weight 1, control "),
        ({"noise": {"kind": "drop", "strength": 0.2}}, "noise (extract cls, regions cells, "),
        ({"noise": {"kind": "drop", "strength": 0.2}}, "weight 1, prior damaged by drop 0.2)"),
    ],
)  # fmt: skip
def test_arms(dense: dict[str, object], said: str) -> None:
    assert said in describe_arm(PretrainRecipe.model_validate({"dense": dense}))


def test_done_again_and_otherwise(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(encoder: LoadedEncoder, folder: Path) -> None:
        raise AssertionError("written again")

    run, out = make_run(), tmp_path / "out"
    first = export(run, out, to="timm")
    with pytest.raises(StoreError, match="to timm there, hf now"):
        export(run, out, to="hf")
    monkeypatch.setitem(FORMATS, "timm", replace(FORMATS["timm"], write=refuse))
    assert export(run, out, to="timm") == first
    export(run, out, to="hf", overwrite=True)
    assert (out / "preprocessor_config.json").exists()
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []


def test_what_is_refused_leaves_an_earlier_export_as_it_was(make_run: MakeRun, tmp_path: Path) -> None:
    out = tmp_path / "out"
    clip = make_run("clip", name="vit_base_patch16_clip_224")
    export(clip, out, to="timm")
    before = {file.name: file.read_bytes() for file in content(out)}
    with pytest.raises(EncoderError, match="cannot express it"):
        export(clip, out, to="hf", overwrite=True)
    assert {file.name: file.read_bytes() for file in content(out)} == before


def test_a_model_that_differs_is_not_put_in_place(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(FORMATS["timm"], read_tokens=lambda *_: {"timm": torch.zeros(3, 37, 48)})
    monkeypatch.setitem(FORMATS, "timm", wrong)
    with pytest.raises(DirlError, match=r"timm gives other tokens than the run \(by 1.0e\+00"):
        export(make_run(), tmp_path / "out", to="timm")
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no such format — there are: timm, hf, onnx"):
        export(make_run(), tmp_path / "out", to="pickle")  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="not finished"):
        export(make_run("unfinished", finished=False), tmp_path / "out", to="timm")
    with pytest.raises(StoreError, match="no such directory"):
        export(tmp_path / "absent", tmp_path / "out", to="timm")
    clip = make_run("clip", name="vit_base_patch16_clip_224")
    with pytest.raises(EncoderError, match=r"cannot express it: .*use --to timm"):
        export(clip, tmp_path / "out", to="hf")
    assert export(clip, tmp_path / "out", to="timm").differences == {"timm": 0.0}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        ConfigError, match=r"needs onnx, onnxscript, onnxruntime — pip install 'dirl\[onnx\]'"
    ):
        export(make_run("onnx"), tmp_path / "onnx-out", to="onnx")


def test_the_command(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["export", str(make_run()), "--to", "timm", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["dirl", *arguments])
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "the same tokens" in result.output and "--licence" in result.output
    assert (tmp_path / "out" / "model.safetensors").is_file()
