"""Loading an encoder by its spec, and running it on tiles."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from dirl.core.checked import checked
from dirl.core.errors import DirlWarning, EncoderError
from dirl.core.layout import CARD
from dirl.core.spec import parse_options
from dirl.encoders.adapt import adapt
from dirl.encoders.checkpoint_layouts import take_encoder
from dirl.encoders.forms import parse_form
from dirl.encoders.hub_files import from_hub
from dirl.encoders.huggingface import NAMES, from_hf, read_hf
from dirl.encoders.known import WEIGHTS, Interpolation, Pooled, find_known
from dirl.encoders.timm_models import create, fetch, read_folder, weights_in
from dirl.encoders.timm_weights import load_weights
from dirl.encoders.weights import check_finite, weights_digest

ON_HUB = "hf-hub:"
FAR = 1.5


class TimmViT(Protocol):
    """What is used of timm's plain vision transformers. Other models of timm may lack some of it."""

    embed_dim: int
    num_prefix_tokens: int
    no_embed_class: bool
    blocks: Sequence[Any]
    patch_embed: Any
    norm: nn.LayerNorm
    norm_pre: nn.Module

    def forward_features(self, images: Tensor) -> Tensor:
        """Return the tokens after the last norm, (b, n, d), of normalised images (b, 3, h, w)."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the weights by name."""


@dataclass(frozen=True)
class LoadedEncoder:
    """A timm model in evaluation mode, without a classifier, and the format of its images.

    Attributes
    ----------
    name
        Short name for tables and figures.
    spec
        The spec that it was loaded by.
    digest
        Digest of its weights.
    model
        Maps normalised images (b, 3, h, w) to embeddings (b, d).
    patch_px
        Side of a patch token in the model's pixels.
    input_px
        Side of its images; None if it accepts any multiple of `patch_px`.
    mean, std
        Mean and standard deviation by channel that normalise images in 0..1.
    run
        The pretraining run that it comes from, if any.
    architecture, arguments
        Arguments of `timm.create_model`.
    random
        Whether its weights are random on request. It is then its own control.
    trained_mpp
        Resolutions of its training in µm/px; empty if unknown.
    interpolation
        The filter that resizes images to `input_px`.
    pooled
        Its embedding: the model's own output, or the class token joined with the mean of the patch tokens.
    """

    name: str
    spec: str
    digest: str
    model: nn.Module = field(repr=False)
    patch_px: int
    input_px: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    run: Path | None
    architecture: str
    arguments: Mapping[str, Any]
    random: bool = False
    trained_mpp: tuple[float, ...] = ()
    interpolation: Interpolation = "bilinear"
    pooled: Pooled = "class"

    @property
    def timm(self) -> TimmViT:
        """The model, as one of timm's plain vision transformers."""
        return cast("TimmViT", self.model)

    @property
    def device(self) -> torch.device:
        """Device of its weights."""
        return next(self.model.parameters()).device

    def embed(self, images: Tensor) -> Tensor:
        """Embed normalised images (b, 3, h, w) as (b, d), with the pooling of its publication."""
        if self.pooled == "class":
            found: Tensor = self.model(images)
            return found
        tokens = self.timm.forward_features(images)
        return torch.cat([tokens[:, 0], tokens[:, self.timm.num_prefix_tokens :].mean(1)], dim=-1)

    def randomised(self, seed: int) -> "LoadedEncoder":
        """Return the same architecture with new random weights: the control for the effect of training."""
        model = create(self.architecture, self.arguments, seed).to(self.device)
        name = f"{self.name}, untrained"
        return replace(self, name=name, model=model, digest=weights_digest(model), run=None, random=True)

    def token_grid(self, tile_px: int) -> tuple[int, int]:
        """Rows and columns of patch tokens on a tile of this side."""
        side = (self.input_px or tile_px) // self.patch_px
        return side, side

    def token_um(self, tile_px: int, mpp: float) -> float:
        """Side of a patch token on a tile, in µm."""
        return self.patch_px * mpp * (1 if self.input_px is None else tile_px / self.input_px)


def load_encoder(spec: str, *, device: str | torch.device = "cpu") -> LoadedEncoder:
    """Load an encoder by name.

    Parameters
    ----------
    spec
        One of these:

        - a name of ``dirl encoders``, such as ``uni``, with the weights of its hub;
        - ``NAME,weights=FILE_OR_DIR``, with local weights, or ``NAME,weights=random``, untrained;
        - a run's directory;
        - ``timm:NAME``, with the weights of its hub;
        - ``timm:NAME,weights=FILE``, with local weights (safetensors, or a plain torch checkpoint);
        - ``timm:NAME,weights=random``, untrained;
        - ``timm:DIR``, a folder with timm's config.json and weights, like models on the hub;
        - ``timm:hf-hub:OWNER/NAME``, a model of the hub with timm's config.json;
        - ``hf:NAME_OR_DIR``, a ViT or DINOv2 of the Hugging Face hub or a folder of the same layout, also
          with ``,weights=random``.

        After a name, or after ``timm:``, any further ``,key=value`` is an argument of
        ``timm.create_model``, for example ``dynamic_img_size=true`` or ``mlp_layer=SwiGLUPacked``.
    device
        Device of the model.

    Raises
    ------
    ConfigError
        If an option is not of the form key=value.
    EncoderError
        If there is no such model or run, or it is not a vision transformer. Also if its weights are missing,
        do not fit or are not finite.
    """
    form, rest = parse_form(spec)
    if form == "known":
        encoder = _load_known(spec, rest)
    elif form == "timm":
        encoder = _load_timm(spec, rest)
    elif form == "hf":
        encoder = _load_hf(spec, rest)
    else:
        encoder = _load_run(spec, Path(spec))
    encoder.model.to(device)
    return encoder


def resize(encoder: LoadedEncoder, pixels: Tensor) -> Tensor:
    """Bring images or label maps to a size that the encoder accepts.

    For fixed-size encoders images are resized by the encoder's anti-aliased filter, and integer labels by
    nearest neighbour. For other encoders the centre is cropped to whole patches.

    Parameters
    ----------
    pixels : Tensor of shape (b, 3, h, w), float, or (b, h, w), integer
        Images, or region ids or nucleus labels.
    """
    height, width = pixels.shape[-2:]
    if encoder.input_px is None:
        # Rounded as torchvision's CenterCrop does, so that timm's transform gives the same pixels.
        top, left = (round(side % encoder.patch_px / 2) for side in (height, width))
        high, wide = (side // encoder.patch_px * encoder.patch_px for side in (height, width))
        if not high or not wide:
            reason = f"a tile of {width} × {height} px is smaller than a patch of {encoder.patch_px} px"
            raise EncoderError(reason, where=encoder.name, remedy="make larger tiles")
        return pixels[..., top : top + high, left : left + wide]
    size = (encoder.input_px, encoder.input_px)
    if (height, width) == size:
        return pixels
    if pixels.is_floating_point():
        mode = encoder.interpolation
        resized = interpolate(pixels, size, mode=mode, antialias=True, align_corners=False)
        return resized.clamp(0, 1) if mode == "bicubic" else resized  # bicubic overshoots
    # By index: `interpolate` converts to float, in which large nucleus ids lose digits.
    rows, columns = (
        ((torch.arange(new, device=pixels.device) + 0.5) * (old / new)).long()
        for new, old in zip(size, (height, width), strict=True)
    )
    return pixels[..., rows[:, None], columns]


def warn_resolution(encoder: LoadedEncoder, tile_px: int, mpp: float) -> None:
    """Warn if an encoder sees tiles at a resolution far from those of its training.

    Far is more than a factor of 1.5. A resize to the encoder's input changes the resolution that it sees.
    """
    seen = mpp * (1 if encoder.input_px is None else tile_px / encoder.input_px)
    if encoder.trained_mpp and all(max(seen / one, one / seen) > FAR for one in encoder.trained_mpp):
        trained = ", ".join(f"{one:g}" for one in encoder.trained_mpp)
        warnings.warn(
            f"{encoder.name} was trained at {trained} µm/px, but sees these tiles at {seen:.3g} µm/px — "
            "make tiles at that resolution, or read its results with care",
            DirlWarning,
            stacklevel=2,
        )


def preprocess(encoder: LoadedEncoder, images: Tensor) -> Tensor:
    """Resize and normalise images for the encoder, on its device.

    Parameters
    ----------
    images : Tensor of shape (b, 3, h, w)
        uint8, or float in 0..1.
    """
    images = images.to(encoder.device)
    values = images if images.is_floating_point() else images.float() / 255
    mean, std = (torch.tensor(v, device=images.device).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    return (resize(encoder, values) - mean) / std


@torch.inference_mode()
def embed_images(encoder: LoadedEncoder, images: Tensor) -> Tensor:
    """Embed images, with the model's own pooling.

    Parameters
    ----------
    images : Tensor of shape (b, 3, h, w)
        uint8, or float in 0..1.

    Returns
    -------
    Tensor of shape (b, d)
    """
    return encoder.embed(preprocess(encoder, images)).float()


def _load_run(spec: str, run: Path) -> LoadedEncoder:
    if (run / CARD).exists():  # without a card there are no digests to check
        for name in ("config.json", "model.safetensors"):
            checked(run, f"encoder/{name}")
    found = read_folder(run / "encoder")
    arguments = {"dynamic_img_size": True, **found.arguments}
    model = create(found.architecture, arguments, seed=0)
    load_weights(model, run / "encoder" / "model.safetensors")
    return _loaded(run.resolve().name, spec, model, found.architecture, arguments, found.normalisation, run)


def _load_timm(spec: str, rest: str) -> LoadedEncoder:
    name, options = parse_options(rest)
    asked = weights = str(options.pop("weights", ""))  # a file, or `random`
    architecture, arguments, normalisation, short = name, options, None, name
    repository = name.removeprefix(ON_HUB) if name.startswith(ON_HUB) else ""
    if repository:
        where, files = f"timm:{name}", ("config.json",)
        name = str(from_hub(repository, files, where=where, instead="timm:FOLDER").parent)
        if not weights:
            weights = str(from_hub(repository, WEIGHTS, where=where, instead="timm:FOLDER"))
    if Path(name).is_dir():
        found = read_folder(Path(name))
        architecture, arguments = found.architecture, {**found.arguments, **options}
        normalisation = found.normalisation
        short = repository.rpartition("/")[2] if repository else Path(name).resolve().name
        weights = weights or str(weights_in(Path(name)))
    model = create(architecture, arguments, seed=0) if weights else fetch(architecture, arguments)
    if weights not in ("", "random"):
        load_weights(model, Path(weights))
    if asked:
        short = f"{short} ({'random' if asked == 'random' else Path(asked).stem})"
    normalisation = normalisation or model.pretrained_cfg
    loaded = _loaded(short, spec, model, architecture, arguments, normalisation, None)
    return replace(loaded, random=weights == "random")


def _load_known(spec: str, rest: str) -> LoadedEncoder:
    name, options = parse_options(rest)
    known = find_known(name)
    weights = str(options.pop("weights", ""))  # a file, a folder, or `random`
    arguments = {**known.arguments, **options}
    model = create(known.architecture, arguments, seed=0)
    if weights != "random":
        if not weights:
            path = from_hub(known.hub, known.files, where=name, instead=f"{name},weights=FILE")
        else:
            path = weights_in(Path(weights)) if Path(weights).is_dir() else Path(weights)
        load_weights(model, path)
    normalisation = {"mean": known.mean, "std": known.std, "input_size": (3, known.side, known.side)}
    short = f"{name} ({'random' if weights == 'random' else Path(weights).stem})" if weights else name
    loaded = _loaded(short, spec, model, known.architecture, arguments, normalisation, None)
    return replace(
        loaded,
        random=weights == "random",
        trained_mpp=known.mpp,
        interpolation=known.interpolation,
        pooled=known.pooled,
    )


def _load_hf(spec: str, rest: str) -> LoadedEncoder:
    name, comma, option = rest.partition(",")
    if comma and option != "weights=random":
        remedy = "weights=random is the only option"
        raise EncoderError(f"unknown option {option!r}", where=spec, remedy=remedy)
    found = read_hf(name, weights=not comma)
    model = create(found.architecture, found.arguments, seed=0)
    if not comma:
        taken = take_encoder(
            found.weights,
            [*model.state_dict(), *NAMES],
            lambda weights: adapt(from_hf(weights), model, spec),
            spec,
        )
        model.load_state_dict(taken.fitted.state)
        taken.print_source(spec)
    normalisation = {"mean": found.mean, "std": found.std, "input_size": (3, found.side, found.side)}
    short = Path(name).name + (" (random)" if comma else "")
    loaded = _loaded(short, spec, model, found.architecture, found.arguments, normalisation, None)
    return replace(loaded, random=bool(comma))


def _loaded(
    name: str,
    spec: str,
    model: Any,
    architecture: str,
    arguments: Mapping[str, Any],
    normalisation: Mapping[str, Any],
    run: Path | None,
) -> LoadedEncoder:
    ratio = getattr(getattr(model, "patch_embed", None), "feat_ratio", None)
    patch: tuple[int, ...] = ratio(as_scalar=False) if ratio is not None else ()
    if len(set(patch)) != 1:
        reason = f"{type(model).__name__} is not a vision transformer with square patches"
        raise EncoderError(reason, where=spec, remedy="choose one, such as timm:vit_small_patch16_224")
    if getattr(model, "global_pool", None) == "":
        reason = "it returns tokens instead of an embedding (global_pool is empty)"
        raise EncoderError(reason, where=spec, remedy="add ,global_pool=token or ,global_pool=avg")
    check_finite(model.state_dict(), spec)
    any_size = bool(getattr(model, "dynamic_img_size", False))
    side = int((getattr(model.patch_embed, "img_size", None) or normalisation["input_size"])[-1])
    return LoadedEncoder(
        name=name,
        spec=spec,
        digest=weights_digest(model),
        model=model.eval().requires_grad_(False),
        patch_px=int(patch[0]),
        input_px=None if any_size else side,
        mean=tuple(normalisation["mean"]),
        std=tuple(normalisation["std"]),
        run=run,
        architecture=architecture,
        arguments=arguments,
    )
