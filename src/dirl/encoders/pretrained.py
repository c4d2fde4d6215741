"""Pretrained starting weights for an encoder."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dirl.core.errors import EncoderError
from dirl.encoders.adapt import Fitted, adapt
from dirl.encoders.checkpoint_layouts import take_encoder
from dirl.encoders.huggingface import NAMES, from_hf, layer_scales
from dirl.encoders.loading import load_encoder
from dirl.encoders.vit import ViT
from dirl.encoders.weights import check_finite, read_weights

SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")


@dataclass(frozen=True)
class InitReport:
    """Report on the starting weights of an encoder, by their names.

    `missing` are weights that the source lacks, which stay random; `unexpected` are those that the encoder
    lacks. `resampled` are loaded weights that were converted: positions, a patch kernel of another size,
    layer scales. `normalisation` is the mean and standard deviation by channel of the source's images; None
    if unknown.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    resampled: tuple[str, ...]
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None


def initialise(encoder: ViT, spec: str) -> InitReport:
    """Load starting weights into an encoder of the same architecture, with any grid and registers.

    The source is a name of ``dirl encoders``, a run's directory, ``timm:NAME``, ``timm:NAME,weights=FILE``,
    ``hf:NAME_OR_DIR``, or a file.
    A file is safetensors or a torch checkpoint with timm's, DINOv2's or transformers' names, in any wrapper:
    see `dirl.encoders.checkpoint_layouts.take_encoder`.
    """
    path = Path(spec)
    if not spec.startswith(("timm:", "hf:")) and (path.suffix in SUFFIXES or path.is_file()):
        taken = take_encoder(
            read_weights(path),
            [*encoder.vit.state_dict(), "register_tokens", *NAMES],
            lambda weights: adapt(_renamed(weights), encoder.vit, spec),
            spec,
            partial=True,
        )
        _check_blocks(taken.fitted, spec)
        check_finite(taken.fitted.state, spec)
        taken.print_source(spec)
        return _load(encoder, taken.fitted)
    source = load_encoder(spec)
    model = source.timm
    if not hasattr(model, "no_embed_class") or not hasattr(model, "blocks"):
        reason = f"{type(model).__name__} is not a plain vision transformer"
        raise EncoderError(reason, where=spec, remedy="give one, such as timm:vit_small_patch16_224")
    fitted = adapt(
        model.state_dict(),
        encoder.vit,
        spec,
        embedded=0 if model.no_embed_class else int(model.num_prefix_tokens),
        heads=model.blocks[0].attn.num_heads,
    )
    return _load(encoder, fitted, (source.mean, source.std))


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    state = layer_scales(from_hf(weights))
    if "register_tokens" in state:
        state["reg_token"] = state.pop("register_tokens")
    return state


def _check_blocks(fitted: Fitted, spec: str) -> None:
    """Refuse blocks that lack a weight or have an extra one: they would compute something else."""
    strange = [name for name in (*fitted.unexpected, *fitted.missing) if name.startswith("blocks.")]
    if strange:
        reason = (
            f"its blocks are not those of a plain ViT: {len(strange)} weights differ (such as {strange[0]})"
        )
        raise EncoderError(
            reason, where=spec, remedy="give weights of a ViT of plain blocks, or another start"
        )


def _load(
    encoder: ViT, fitted: Fitted, normalisation: tuple[tuple[float, ...], tuple[float, ...]] | None = None
) -> InitReport:
    encoder.vit.load_state_dict(fitted.state, strict=False)
    return InitReport(tuple(fitted.state), fitted.missing, fitted.unexpected, fitted.changed, normalisation)
