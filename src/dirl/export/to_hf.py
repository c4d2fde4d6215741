"""The layout of transformers: Dinov2Model, or Dinov2WithRegistersModel for an encoder with registers.

They also express a plain ViT, with layer scales of one. ViTModel would add a pooler of random weights, while
the pooled output of these two is the class token, which dirl embeds with.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dirl.core.errors import EncoderError
from dirl.core.files import read_json, write_json
from dirl.encoders.adapt import adapt
from dirl.encoders.huggingface import to_hf
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.export.formats import (
    Format,
    class_and_patch_tokens,
    same_architecture,
    tile_px,
    uncropped_px,
    without_registers,
)

CLASSES = {"dinov2": "Dinov2Model", "dinov2_with_registers": "Dinov2WithRegistersModel"}
_USE = """from transformers import AutoImageProcessor, AutoModel
processor = AutoImageProcessor.from_pretrained("FOLDER")
model = AutoModel.from_pretrained("FOLDER").eval()
embedding = model(**processor(tiles, return_tensors="pt")).pooler_output  # (b, d), the class tokens"""

_PREPARES = """For tiles of {tile} px, the processor changes no pixel; it crops them to whole patches. It
resizes other tiles, but `dirl embed` does not. The position embeddings fit this size."""


def write_hf(encoder: LoadedEncoder, folder: Path) -> None:
    """Write ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    An architecture without a class in transformers raises an `EncoderError`.
    """
    model = encoder.timm
    _check(encoder)
    kind = "dinov2_with_registers" if model.num_prefix_tokens > 1 else "dinov2"
    # transformers gives registers no position, always a layer scale, and resamples positions otherwise.
    changes: dict[str, Any] = {"no_embed_class": True, "img_size": tile_px(encoder)}
    if isinstance(model.blocks[0].ls1, nn.Identity):
        changes["init_values"] = 1.0
    target = same_architecture(encoder, **changes)
    embedded = 0 if model.no_embed_class else int(model.num_prefix_tokens)
    state = adapt(model.state_dict(), target, encoder.spec, embedded=embedded).state
    state["pos_embed"] = nn.functional.pad(state["pos_embed"], (0, 0, 1, 0))
    state["mask_token"] = torch.zeros(1, model.embed_dim)
    try:
        renamed = to_hf(state, kind)
    except KeyError as error:
        raise _refuse(encoder, f"there is no place for {error}") from error
    whole = {key: value.detach().cpu().clone().contiguous() for key, value in renamed.items()}
    save_file(whole, folder / "model.safetensors", metadata={"format": "pt"})
    write_json(folder / "config.json", _config(encoder, kind))
    side = tile_px(encoder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "image_processor_type": "BitImageProcessor",
            "do_resize": True,
            "size": {"shortest_edge": uncropped_px(encoder)},
            "resample": 2,
            "do_center_crop": True,
            "crop_size": {"height": side, "width": side},
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_normalize": True,
            "image_mean": list(encoder.mean),
            "image_std": list(encoder.std),
        },
    )


def read_tokens(encoder: LoadedEncoder, folder: Path, images: Tensor) -> dict[str, Tensor]:
    """Run the exported model on images; see `Format.read_tokens`."""
    images = preprocess(encoder, images)
    found = {"dirl": class_and_patch_tokens(load_encoder(f"hf:{folder}").timm, images)}
    try:
        import transformers
    except ImportError:
        return found
    config = read_json(folder / "config.json")
    logging: Any = transformers.utils.logging
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        model = getattr(transformers, CLASSES[config["model_type"]]).from_pretrained(folder)
    finally:
        if shown:
            logging.enable_progress_bar()
    with torch.inference_mode():
        every = model.eval()(images).last_hidden_state
    found["transformers"] = without_registers(every, config.get("num_register_tokens", 0))
    return found


FORMAT = Format("transformers", _USE, _PREPARES, write_hf, read_tokens)


def _config(encoder: LoadedEncoder, kind: str) -> dict[str, object]:
    model = encoder.timm
    block, width = model.blocks[0], model.embed_dim
    config: dict[str, object] = {
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": len(model.blocks),
        "num_attention_heads": block.attn.num_heads,
        "image_size": tile_px(encoder),
        "patch_size": encoder.patch_px,
        "num_channels": 3,
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": model.norm.eps,
        "qkv_bias": block.attn.qkv.bias is not None,
    }
    hidden = block.mlp.fc1.out_features
    if hidden % width:
        raise _refuse(encoder, f"an MLP of {hidden} is no whole multiple of the width {width}")
    config |= {"mlp_ratio": hidden // width, "use_swiglu_ffn": False, "layerscale_value": 1.0}
    if kind == "dinov2_with_registers":
        config |= {"num_register_tokens": model.num_prefix_tokens - 1}
    return config


def _check(encoder: LoadedEncoder) -> None:
    """Refuse parts that the two classes compute differently, or have no weights for."""
    model = encoder.timm
    block = model.blocks[0]
    activation = block.mlp.act
    if not isinstance(activation, nn.GELU) or activation.approximate != "none":
        raise _refuse(encoder, f"its activation is {activation}")
    extra = {
        "a norm before the blocks": model.norm_pre,
        "a norm of queries": block.attn.q_norm,
        "a norm in its attention": block.attn.norm,
        "a norm in its MLP": block.mlp.norm,
        "a norm of patches": model.patch_embed.norm,
    }
    for what, module in extra.items():
        if not isinstance(module, nn.Identity):
            raise _refuse(encoder, f"it has {what}")


def _refuse(encoder: LoadedEncoder, reason: str) -> EncoderError:
    return EncoderError(
        f"transformers' DINOv2 cannot express it: {reason}",
        where=encoder.spec,
        remedy="use --to timm or --to onnx",
    )
