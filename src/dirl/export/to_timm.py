"""The layout that timm loads from a folder or from the hub."""

import shutil
from pathlib import Path
from typing import cast

import timm
from torch import Tensor

from dirl.encoders.loading import LoadedEncoder, TimmViT, preprocess
from dirl.export.formats import Format, class_and_patch_tokens

FILES = ("config.json", "model.safetensors")
_USE = """import timm
model = timm.create_model("local-dir:FOLDER", pretrained=True).eval()  # or "hf-hub:OWNER/NAME"
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
embedding = model(prepare(tile)[None])  # (1, d), of a tile that PIL has opened, in RGB"""
_PREPARES = """For tiles of {tile} px, this transform changes no pixel; it crops them to whole patches. It
resizes other tiles, but `dirl embed` does not."""


def write_timm(encoder: LoadedEncoder, folder: Path) -> None:
    """Copy the run's ``config.json`` and ``model.safetensors``, which have this layout."""
    for name in FILES:
        shutil.copyfile(Path(encoder.spec) / "encoder" / name, folder / name)


def read_tokens(encoder: LoadedEncoder, folder: Path, images: Tensor) -> dict[str, Tensor]:
    """Run the exported model on images; see `Format.read_tokens`."""
    model = cast("TimmViT", timm.create_model(f"local-dir:{folder}", pretrained=True).eval())
    return {"timm": class_and_patch_tokens(model, preprocess(encoder, images))}


FORMAT = Format("timm", _USE, _PREPARES, write_timm, read_tokens)
