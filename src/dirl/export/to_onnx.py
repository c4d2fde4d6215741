"""One ONNX file: from images in 0..1 to class and patch tokens. The size of the images is fixed."""

import importlib.util
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from dirl.core.errors import ConfigError
from dirl.core.files import write_json
from dirl.encoders.loading import LoadedEncoder
from dirl.export.formats import Format, same_architecture, view_px

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_USE = """import onnxruntime
session = onnxruntime.InferenceSession("FOLDER/model.onnx")
cls, patches = session.run(None, {"images": images})  # float32 (b, 3, h, w) in 0..1, not yet normalised"""

_PREPARES = "`dirl embed` gives it tiles in their own size, so resized ones yield other features."


class _Graph(nn.Module):
    """The encoder with its normalisation, so that users of the file cannot get it wrong."""

    def __init__(self, model: nn.Module, mean: tuple[float, ...], std: tuple[float, ...], skip: int) -> None:
        super().__init__()
        self.model, self.skip = model, skip
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.model.forward_features((images - self.mean) / self.std)  # type: ignore[operator]
        return tokens[:, 0], tokens[:, self.skip :]


def write_onnx(encoder: LoadedEncoder, folder: Path) -> None:
    """Write ``model.onnx``, and the format of its images in ``config.json``. It needs the extra ``onnx``."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        reason = f"needs {', '.join(absent)}"
        raise ConfigError(reason, where="--to onnx", remedy="pip install 'dirl[onnx]'")
    side = view_px(encoder)
    # With a fixed size: otherwise the graph resamples position embeddings that already fit.
    model = same_architecture(encoder, dynamic_img_size=False)
    model.load_state_dict(encoder.model.state_dict())
    for block in model.blocks:
        block.attn.fused_attn = False
    graph = _Graph(model, encoder.mean, encoder.std, model.num_prefix_tokens).eval()
    images = torch.zeros(2, 3, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within its own libraries
        torch.onnx.export(
            graph,
            (images,),
            folder / "model.onnx",
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["images"],
            output_names=["cls", "patches"],
            external_data=False,
            verbose=False,
        )
    facts = {"side_px": side, "patch_px": encoder.patch_px, "range": [0, 1], "outputs": ["cls", "patches"]}
    write_json(folder / "config.json", facts)


def read_tokens(encoder: LoadedEncoder, folder: Path, images: Tensor) -> dict[str, Tensor]:
    """Run the exported model on images; see `Format.read_tokens`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    cls, patches = (torch.from_numpy(part) for part in session.run(None, {"images": images.numpy()}))
    return {"onnxruntime": torch.cat([cls[:, None], patches], dim=1)}


FORMAT = Format("onnx", _USE, _PREPARES, write_onnx, read_tokens)
