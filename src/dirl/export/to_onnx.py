"""One ONNX file: from images in 0..1, of any number and size, to class and patch tokens."""

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dirl import __version__
from dirl.core.card import read_card
from dirl.core.errors import ConfigError
from dirl.core.files import write_json
from dirl.encoders.loading import LoadedEncoder
from dirl.export.formats import Format, same_architecture, tile_px

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_USE = """import onnxruntime
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
cls, patches = session.run(None, {"images": images})  # float32 (b, 3, h, w) in 0..1, not yet normalised
facts = session.get_modelmeta().custom_metadata_map  # mean, std, mpp, patch_px, pooling and others"""

_PREPARES = """Give it tiles in their own size, as `dirl embed` does. The graph crops them to whole patches,
and resamples the position embeddings to their size."""


class _Graph(nn.Module):
    """The encoder with its crop and its normalisation, so that users of the file cannot get them wrong."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.model, self.patch_px = model, int(model.patch_embed.patch_size[0])
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        for dimension in (2, 3):
            count, rest = images.shape[dimension] // self.patch_px, images.shape[dimension] % self.patch_px
            # Half of the rest, rounded to even as `preprocess` does, in operations that the graph can hold.
            images = images.narrow(dimension, (rest + rest // 2 % 2) // 2, count * self.patch_px)
        tokens = self.model.forward_features((images - self.mean) / self.std)
        return tokens[:, 0], tokens[:, self.model.num_prefix_tokens :]


def write_onnx(encoder: LoadedEncoder, folder: Path) -> None:
    """Write ``model.onnx``, and its facts in ``config.json``. It needs the extra ``onnx``."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        reason = f"needs {', '.join(absent)}"
        raise ConfigError(reason, where="--to onnx", remedy="pip install 'dirl[onnx]'")
    model = same_architecture(encoder)
    model.load_state_dict(encoder.model.state_dict())
    for block in model.blocks:
        block.attn.fused_attn = False
    patch, free = encoder.patch_px, torch.export.Dim
    # Traced with a rest to crop: otherwise the graph would have no crop.
    height, width = 6 * patch - 1, 8 * patch - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within its own libraries
        program = torch.onnx.export(
            _Graph(model, encoder.mean, encoder.std).eval(),
            (torch.zeros(2, 3, height, width),),
            dynamo=True,
            dynamic_shapes=({0: free("batch"), 2: free("height", min=patch), 3: free("width", min=patch)},),
            input_names=["images"],
            output_names=["cls", "patches"],
            verbose=False,
        )
    assert program is not None
    facts = _facts(encoder)
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
    program.model.metadata_props.update(texts)
    program.save(folder / "model.onnx", external_data=False)
    write_json(folder / "config.json", facts)


def _facts(encoder: LoadedEncoder) -> dict[str, Any]:
    """What users of the file must know, for its metadata."""
    return {
        "mean": list(encoder.mean),
        "std": list(encoder.std),
        "normalisation": "in the graph",
        "range": [0, 1],
        "mpp": read_card(Path(encoder.spec), "pretrain").counts.get("mpp"),
        "tile_px": tile_px(encoder),
        "patch_px": encoder.patch_px,
        "pooling": "class token",
        "outputs": ["cls", "patches"],
        "dirl_version": __version__,
    }


def read_tokens(encoder: LoadedEncoder, folder: Path, images: Tensor) -> dict[str, Tensor]:
    """Run the exported model on images; see `Format.read_tokens`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    cls, patches = (torch.from_numpy(part) for part in session.run(None, {"images": images.numpy()}))
    return {"onnxruntime": torch.cat([cls[:, None], patches], dim=1)}


FORMAT = Format("onnx", _USE, _PREPARES, write_onnx, read_tokens)
