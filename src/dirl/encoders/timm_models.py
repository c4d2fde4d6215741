"""timm models by name and options, by a folder's config, or from the hub."""

import difflib
import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm import layers
from torch import nn

from dirl.core.boundary import parsing
from dirl.core.errors import EncoderError, first_line
from dirl.core.files import read_json
from dirl.core.hub import fetching

# timm needs these as classes. In a JSON file and on a command line they are names.
MLPS = ("GluMlp", "Mlp", "SwiGLU", "SwiGLUPacked")
# Ten times the largest vision transformers. The estimate of weights is too low by a factor of twelve.
MOST_WEIGHTS, MOST_TOKENS = 2e10, 1e6
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class TimmFolder:
    """A ``config.json`` of timm's layout, as in a run's ``encoder/`` and in models on the hub.

    `architecture` and `arguments` are for ``timm.create_model``. `normalisation` holds the mean, the standard
    deviation and the input size of its images.
    """

    architecture: str
    arguments: Mapping[str, Any]
    normalisation: Mapping[str, Any]


def read_folder(folder: Path) -> TimmFolder:
    """Read the ``config.json`` of a folder in timm's layout."""
    path = folder / "config.json"
    remedy = "give a folder of timm's layout"
    with parsing(path, remedy=remedy, kind=EncoderError):
        config = read_json(path, remedy, kind=EncoderError)
        given = config["pretrained_cfg"]
        normalisation = {name: channels(given[name]) for name in ("mean", "std")}
        normalisation["input_size"] = tuple(int(side) for side in given["input_size"])
        return TimmFolder(
            str(config["architecture"]), {**(config.get("model_args") or {})}, {**given, **normalisation}
        )


def tile_transform(tile_px: int, patch_px: int) -> dict[str, Any]:
    """Return settings of timm's transform that only crops tiles of this side to whole patches.

    For other tiles it resizes to the same number of patches, which dirl does not do.
    """
    side = tile_px // patch_px * patch_px
    # timm resizes to the side divided by crop_pct, rounded down, before it crops.
    share = 1.0 if side == tile_px else side / (tile_px + 0.5)
    return {
        "input_size": [3, side, side],
        "crop_pct": share,
        "crop_mode": "center",
        "interpolation": "bilinear",
    }


def channels(values: Sequence[Any]) -> tuple[float, ...]:
    """Read one finite number for each of three channels; others are a `ValueError` or `TypeError`."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3 or not all(map(math.isfinite, numbers)):
        raise ValueError(f"not three numbers: {values}")
    return numbers


def weights_in(folder: Path) -> Path:
    """Return the file of weights in a folder."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        remedy = f"put {' or '.join(WEIGHTS)} there"
        raise EncoderError("contains no weights", where=folder, remedy=remedy)
    return found


def create(architecture: str, arguments: Mapping[str, Any], seed: int) -> Any:
    """Make a timm model without a classifier, initialised from a seed, in evaluation mode."""
    arguments = dict(arguments)
    mlp = arguments.get("mlp_layer")
    if isinstance(mlp, str):
        if mlp not in MLPS:
            raise EncoderError(
                f"no mlp_layer {mlp!r}", where=architecture, remedy=f"one of {', '.join(MLPS)}"
            )
        arguments["mlp_layer"] = getattr(layers, mlp)
    _check_size(architecture, arguments)
    _check_name(architecture)
    _check_options(architecture, arguments)
    with torch.random.fork_rng(devices=[]):
        # Only the CPU's generator: models are made on the CPU, and no other generator is changed.
        torch.default_generator.manual_seed(seed)
        return new_model(architecture, arguments).eval()


def new_model(name: str, arguments: Mapping[str, Any]) -> Any:
    """Make a timm model without a classifier, initialised by torch's current generator."""
    _check_name(name)
    try:
        return timm.create_model(name, pretrained=False, **{**arguments, "num_classes": 0})
    except Exception as error:  # timm raises anything for arguments that it does not expect
        reason = f"timm cannot make it with these options ({first_line(error)})"
        remedy = "change the options, or install a timm that knows them"
        raise EncoderError(reason, where=f"timm:{name}", remedy=remedy) from error


def _check_size(architecture: str, arguments: Mapping[str, Any]) -> None:
    """Refuse a model that would fill any memory, for example by a damaged config."""
    asked = {name: arguments.get(name, 1) for name in ("depth", "embed_dim", "img_size", "patch_size")}
    if not all(isinstance(value, int) and value > 0 for value in asked.values()):
        return  # timm reports the error, or accepts other types
    tokens = max(*asked.values(), (asked["img_size"] // asked["patch_size"]) ** 2)
    wider = arguments.get("mlp_ratio", 1)
    if isinstance(wider, float) and math.isfinite(wider):
        wider = math.ceil(wider)  # only integers are multiplied without an overflow
    weights = asked["depth"] * asked["embed_dim"] ** 2 * (wider if isinstance(wider, int) else 1)
    if tokens > MOST_TOKENS or weights > MOST_WEIGHTS:
        named = ", ".join(f"{name}={value}" for name, value in asked.items() if name in arguments)
        raise EncoderError(
            f"larger than any model ({named[:200]})", where=architecture, remedy="correct its settings"
        )


def fetch(name: str, options: Mapping[str, Any]) -> Any:
    """Make a timm model with the weights of its hub."""
    _check_name(name)
    _check_options(name, options)
    architecture, _, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if not tags or (tag and tag not in tags):
        reason = f"timm has no pretrained weights{f' {tag!r}' if tag else ''} of it"
        remedy = f"there are: {', '.join(tags) or 'none'}; or pass timm:{name},weights=FILE|random"
        raise EncoderError(reason, where=f"timm:{name}", remedy=remedy)
    where = f"timm:{name}"
    weights: Any = timm.get_pretrained_cfg(name)
    source: str = weights.hf_hub_id or weights.url  # some weights lie on no hub
    file = "model.safetensors" if weights.hf_hub_id else source.rpartition("/")[2]
    with fetching(name, file, source, f"{where},weights={file}", where=where, kind=EncoderError):
        return timm.create_model(name, pretrained=True, **{**options, "num_classes": 0})


def _check_name(name: str) -> None:
    if not timm.is_model(name):
        plain = timm.list_models(module="vision_transformer")  # the audit cannot read most others
        close = [known for known in plain if known.startswith(name)]
        close += difflib.get_close_matches(name, plain, n=4, cutoff=0.5)
        remedy = f"did you mean {', '.join(list(dict.fromkeys(close))[:4] or plain[:4])}?"
        raise EncoderError("timm has no such model", where=f"timm:{name}", remedy=remedy)


def _check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that neither ``timm.create_model`` nor the model's module knows."""
    module = sys.modules[timm.model_entrypoint(name).__module__]
    classes = [one for one in vars(module).values() if isinstance(one, type) and issubclass(one, nn.Module)]
    makers: list[Callable[..., Any]] = [timm.create_model, *classes]
    known = {parameter for made in makers for parameter in inspect.signature(made).parameters}
    for option in options:
        if option not in known:
            close = difflib.get_close_matches(option, ["weights", *sorted(known)], n=2)
            meant = f"did you mean {' or '.join(close)}? " if close else ""
            raise EncoderError(
                f"takes no option {option}",
                where=f"timm:{name}",
                remedy=f"{meant}The options are weights, and arguments of timm.create_model such as img_size",
            )
