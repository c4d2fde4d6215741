"""Starting weights for an encoder, from wherever there are some."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dirl.encoders.adapt import Fitted, adapt
from dirl.encoders.checkpoint import load_encoder
from dirl.encoders.huggingface import from_hf
from dirl.encoders.vit import ViT
from dirl.encoders.weights import read_weights
from dirl.errors import EncoderError


@dataclass(frozen=True)
class InitReport:
    """What became of an encoder's weights.

    Attributes
    ----------
    loaded
        Names of the encoder's weights that are the source's now.
    missing
        Names of those that the source does not have: they keep their random start.
    unexpected
        Names of the source's weights that the encoder has no place for.
    resampled
        Names of loaded ones that the source has in another form: positions of another grid, a patch
        kernel of another size, layer scale or prefix positions that one of the two does without.
    normalisation
        Mean and standard deviation, by channel, that the source's images were normalised with; None where
        it does not say.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    resampled: tuple[str, ...]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def initialise(encoder: ViT, spec: str) -> InitReport:
    """Load starting weights into an encoder of the same architecture, whatever its grid and registers.

    Parameters
    ----------
    encoder
        Its ``vit`` takes the weights.
    spec
        A run's directory; ``timm:NAME``, from its hub, or ``timm:NAME,weights=FILE``; ``hf:NAME_OR_DIR``;
        or a .safetensors file with timm's, DINOv2's or transformers' names.

    Raises
    ------
    EncoderError
        If the weights cannot be had, or are of another width, depth, MLP or number of heads.
    """
    path = Path(spec)
    if path.suffix == ".safetensors" and not spec.startswith(("timm:", "hf:")):
        if not path.is_file():
            raise EncoderError("no such file", where=spec, remedy="name a .safetensors file")
        state = from_hf(read_weights(path))
        if "register_tokens" in state:
            state["reg_token"] = state.pop("register_tokens")
        return _load(encoder, adapt(state, encoder.vit, spec))
    source = load_encoder(spec)
    model: Any = source.model
    if not hasattr(model, "no_embed_class") or not hasattr(model, "blocks"):
        reason = f"{type(model).__name__} is not a plain vision transformer"
        raise EncoderError(reason, where=spec, remedy="name one such as timm:vit_small_patch16_224")
    fitted = adapt(
        model.state_dict(),
        encoder.vit,
        spec,
        embedded=0 if model.no_embed_class else int(model.num_prefix_tokens),
        heads=model.blocks[0].attn.num_heads,
    )
    return _load(encoder, fitted, (source.mean, source.std))


def _load(
    encoder: ViT, fitted: Fitted, normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
) -> InitReport:
    encoder.vit.load_state_dict(fitted.state, strict=False)
    return InitReport(tuple(fitted.state), fitted.missing, fitted.unexpected, fitted.changed, normalisation)
