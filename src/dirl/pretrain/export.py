"""The encoder that a run exports: safetensors and a config that timm reads."""

from pathlib import Path

from safetensors.torch import save_file

from dirl.config import EncoderConfig
from dirl.core.files import replacing, write_json
from dirl.encoders.vit import ViT


def export_encoder(encoder: ViT, config: EncoderConfig, folder: Path) -> None:
    """Write an encoder so that timm loads it.

    ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads it, and so does
    ``timm.create_model(NAME, checkpoint_path=FOLDER/model.safetensors, num_classes=0, **ARGS)`` with the
    architecture and the model_args in its config.json.

    Parameters
    ----------
    encoder
        The trained encoder.
    config
        Its recipe, for the normalisation.
    folder
        Directory to make: ``config.json`` and ``model.safetensors``.
    """
    side = encoder.model_args["img_size"]
    with replacing(folder) as temporary:
        temporary.mkdir()
        state = {name: value.detach().cpu().contiguous() for name, value in encoder.vit.state_dict().items()}
        save_file(state, temporary / "model.safetensors", metadata={"format": "pt"})
        write_json(
            temporary / "config.json",
            {
                "architecture": encoder.architecture,
                "num_classes": 0,
                "num_features": encoder.width,
                "model_args": encoder.model_args,
                "pretrained_cfg": {
                    "input_size": [3, side, side],
                    "fixed_input_size": False,
                    "mean": list(config.mean),
                    "std": list(config.std),
                    "num_classes": 0,
                },
            },
        )
