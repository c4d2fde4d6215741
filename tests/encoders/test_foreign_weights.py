"""Files that hold no weights, or weights of another form: named, and never taken for what they are not."""

import gzip
import zipfile
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from dirl.config import EncoderConfig
from dirl.core.errors import EncoderError
from dirl.encoders.huggingface import to_hf
from dirl.encoders.pretrained import initialise
from dirl.encoders.vit import ViT
from tests.encoders.test_contained import OPTIONS, OTHER, SMALL, STATE, TINY, is_state, load, under


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"0")


FOREIGN: dict[str, tuple[Any, str]] = {
    "npz": (lambda path: zipped(path, "a.npy"), "a NumPy file"),
    "zip": (lambda path: zipped(path, "a.txt"), "a zip archive that torch did not write"),
    "TorchScript": (lambda path: zipped(path, "a/data.pkl", "a/constants.pkl"), "a TorchScript archive"),
    "npy": (lambda path: path.write_bytes(b"\x93NUMPY\x01\x00"), "a NumPy file"),
    "gzip": (lambda path: path.write_bytes(gzip.compress(b"0")), "a gzip archive"),
    "hdf5": (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file"),
    "json": (lambda path: path.write_text('{"error": "denied"}'), r"a text file \(JSON\)"),
    "html": (lambda path: path.write_text("\ufeff<!-- x --><html>", encoding="utf-8"), "a web page"),
}


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_files_of_other_formats_are_named(tmp_path: Path, kind: str, name: str) -> None:
    write, message = FOREIGN[kind]
    write(tmp_path / name)
    with pytest.raises(EncoderError, match=f"{name}: {message}"):
        load(tmp_path / name)


@pytest.mark.parametrize("size", [0x7B, 0x8B1F - 8])
def test_a_header_of_safetensors_whose_length_looks_like_another_format_is_read(
    tmp_path: Path, size: int
) -> None:
    save_file(STATE, tmp_path / "w.pth")
    data = (tmp_path / "w.pth").read_bytes()
    length = int.from_bytes(data[:8], "little")
    target = length + (size - length) % (0x100 if size < 0x100 else 0x10000)
    header = data[8 : 8 + length].ljust(target)
    (tmp_path / "w.pth").write_bytes(target.to_bytes(8, "little") + header + data[8 + length :])
    assert is_state(load(tmp_path / "w.pth"))


def test_the_bytes_decide_and_not_the_ending(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "w.safetensors")
    assert is_state(load(tmp_path / "w.safetensors"))
    torch.save([3, {"model": STATE}], tmp_path / "w.pth")
    assert is_state(load(tmp_path / "w.pth"))


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.to(torch.int8),
        lambda value: value.to(torch.complex64),
        lambda value: value.to(torch.float8_e4m3fn),
        lambda value: value.to("meta"),
    ],
)
def test_weights_that_are_no_plain_numbers_are_refused(tmp_path: Path, change: Any) -> None:
    torch.save(STATE | {"norm.weight": change(STATE["norm.weight"])}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"not plain floating-point numbers, first norm\.weight"):
        load(tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=r"not plain floating-point numbers, first norm\.weight"):
        initialise(small_vit(), str(tmp_path / "w.pth"))


def small_vit() -> ViT:
    return ViT(EncoderConfig(name=TINY, patch_px=8, width=12, depth=2, heads=3), 32)


@pytest.mark.parametrize("name", ["gamma_1", "layerscale_1", "attn.q_norm.weight", "attn.q_bias"])
def test_weights_of_blocks_are_never_left_out(tmp_path: Path, name: str) -> None:
    torch.save(STATE | {f"blocks.1.{name}": torch.full((12,), 0.5)}, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match=rf"1 unknown \(such as blocks\.1\.{name}"):
        load(tmp_path / "w.pth")
    if name == "gamma_1":  # known: the layer before it takes it over
        found = small_vit()
        initialise(found, str(tmp_path / "w.pth"))
        proj = found.vit.state_dict()["blocks.1.attn.proj.weight"]
        assert torch.allclose(proj, 0.5 * STATE["blocks.1.attn.proj.weight"])
    else:
        with pytest.raises(EncoderError, match=rf"not those of a plain ViT.*blocks\.1\.{name}"):
            initialise(small_vit(), str(tmp_path / "w.pth"))


def test_blocks_without_a_bias_start_with_none(tmp_path: Path) -> None:
    state = {name: value for name, value in STATE.items() if not name.endswith("qkv.bias")}
    torch.save(state, tmp_path / "w.pth")
    found = small_vit()
    assert not initialise(found, str(tmp_path / "w.pth")).missing
    assert not found.vit.state_dict()["blocks.1.attn.qkv.bias"].any()


def test_what_is_resampled_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="dirl")
    large = timm.create_model(TINY, num_classes=0, **(SMALL | {"patch_size": 16, "img_size": 48}))
    torch.save(large.state_dict(), tmp_path / "w.pth")
    load(tmp_path / "w.pth")
    said = caplog.text
    assert "resampled to this model's grid: pos_embed, patch_embed.proj.weight" in said


def test_the_same_names_with_and_without_a_wrapper_are_two_encoders(tmp_path: Path) -> None:
    torch.save(under("module", OTHER) | STATE, tmp_path / "w.pth")
    with pytest.raises(EncoderError, match="several encoders of this model: the top level and module"):
        load(tmp_path / "w.pth")


def test_names_of_transformers_and_of_layer_scales_are_read(tmp_path: Path) -> None:
    torch.save({"state_dict": under("model.vit", to_hf(STATE, "vit"))}, tmp_path / "w.pth")
    assert is_state(load(tmp_path / "w.pth"))
    scales = {f"blocks.{i}.gamma_{j}": torch.full((12,), i + j / 10) for i in (0, 1) for j in (1, 2)}
    torch.save(STATE | scales, tmp_path / "w.pth")
    state = load(tmp_path / "w.pth", f"{OPTIONS},init_values=0.1")
    assert is_state(state) and torch.equal(state["blocks.1.ls2.gamma"], scales["blocks.1.gamma_2"])
