"""`dirl export`: a run's encoder in the layout of another program, checked before it is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from dirl.core.card import finish, new_card, read_card
from dirl.core.claim import check_claim, claim
from dirl.core.errors import ConfigError, DirlError, StoreError
from dirl.core.files import put_in_place, remove, write_text
from dirl.core.full_disk import writing
from dirl.core.layout import CARD, NOT_CONTENT
from dirl.core.owner import own, owning
from dirl.encoders.loading import LoadedEncoder, load_encoder, preprocess
from dirl.export import to_hf, to_onnx, to_timm
from dirl.export.formats import Format, class_and_patch_tokens, tile_px
from dirl.export.model_card import UNKNOWN, model_card
from dirl.pretrain.read_run import load_run

FormatName = Literal["timm", "hf", "onnx"]
FORMATS: dict[FormatName, Format] = {"timm": to_timm.FORMAT, "hf": to_hf.FORMAT, "onnx": to_onnx.FORMAT}
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Export:
    """An exported encoder.

    Attributes
    ----------
    path
        Its directory: the format's files, ``README.md`` and ``card.json``.
    differences
        Largest difference of its tokens from the run's, relative to the largest value. By program; only
        programs that are installed here.
    """

    path: Path
    differences: dict[str, float]


@owning
def export(
    run: Path, out: Path, *, to: FormatName, licence: str = UNKNOWN, overwrite: bool = False
) -> Export:
    """Write a finished run's encoder for another program, with a model card.

    If the export is refused, no directory is left.

    Parameters
    ----------
    run
        A run's directory.
    out
        Directory to make.
    to
        ``timm``; ``hf`` for transformers' DINOv2, which also expresses a ViT; ``onnx``, which needs the extra
        ``onnx``.
    licence
        Licence of the weights, for the model card.
    overwrite
        Replace an export of another run, or to another format.

    Raises
    ------
    StoreError
        If `run` is no finished run, or `out` holds something else.
    EncoderError
        If the format cannot express the architecture.
    ConfigError
        If there is no such format, or its extra is not installed.
    DirlError
        If the tokens of the exported model differ from the run's by more than `TOLERANCE`.
    """
    if to not in FORMATS:
        raise ConfigError("no such format", where=f"--to {to}", remedy=f"there are: {', '.join(FORMATS)}")
    if not run.is_dir():
        raise StoreError(
            "no such directory",
            where=run,
            remedy="name a run of `dirl pretrain`: only its encoder can be exported",
        )
    trained, made_by = load_run(run), read_card(run, "pretrain")
    encoder = load_encoder(str(run))
    settings = {"run": run.resolve().name, "to": to, "licence": licence}
    card = new_card("export", settings, {"run": made_by.digest, "encoder": encoder.digest})
    earlier = check_claim(out, card, overwrite=overwrite)
    if earlier is not None and earlier.finished:
        return Export(out, dict(earlier.counts["differences"]))
    form, work, fresh = FORMATS[to], out / ".work", not out.exists()
    own(out)
    if not (out / CARD).exists():
        claim(out, card)
    remove(work)
    work.mkdir()
    try:
        with writing(out):
            form.write(encoder, work)
        differences = _check(encoder, form, work)
    except Exception:
        # So another format can be exported to the same directory.
        remove(work)
        if fresh:
            remove(out)
        elif {file.name for file in out.iterdir()} <= NOT_CONTENT | {CARD}:
            remove(out / CARD)
        raise
    # Only now, since the new export is complete and checked, is the old one replaced.
    card = claim(out, card, overwrite=overwrite, keep=work)
    for file in sorted(work.iterdir()):
        put_in_place(file, out / file.name)
    remove(work)
    text = model_card(
        encoder,
        made_by,
        trained.metrics,
        form,
        licence=licence,
        differences=differences,
    )
    write_text(out / "README.md", text)
    finish(out, card, {"differences": differences})
    return Export(out, differences)


def _check(encoder: LoadedEncoder, form: Format, folder: Path) -> dict[str, float]:
    """Compare the exported model with the run's, on a number of images that no format was traced with."""
    side = tile_px(encoder)
    images = torch.rand(3, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = class_and_patch_tokens(encoder.timm, preprocess(encoder, images))
    differences = {}
    for name, found in form.read_tokens(encoder, folder, images).items():
        differences[name] = float((found - expected).abs().max() / expected.abs().max())
        if not differences[name] <= TOLERANCE:  # NaN too
            raise DirlError(
                f"{name} gives other tokens than the run (by {differences[name]:.1e} of the largest value)",
                where=folder.parent,
                remedy="use another format, and report it",
            )
    return differences
