"""Words for encoders, without torch: the forms of their names, and the query whose attention is read."""

from pathlib import Path
from typing import Literal

from dirl.core.card import read_card
from dirl.core.errors import EncoderError
from dirl.core.layout import CARD

Form = Literal["timm", "hf", "run"]
Query = Literal["cls", "pooling", "mean patch"]
"""That of [CLS]; the one by which a model pools its tokens; or the mean of all patch queries."""

SUPPORTED = (
    "a run's directory, timm:NAME[,weights=FILE] (weights=random: untrained), timm:DIR, hf:NAME_OR_DIR"
)


def parse_form(spec: str) -> tuple[Form, str]:
    """Take the form and the rest of an encoder's name apart, without loading anything."""
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == "timm":
        return "timm", rest
    if colon and scheme == "hf":
        return "hf", rest
    if (Path(spec) / "encoder" / "config.json").is_file():
        return "run", spec
    if Path(spec).is_dir():
        reason = "contains no encoder (no encoder/config.json)"
        remedy = "give a directory that `dirl pretrain` finished"
        if (Path(spec) / CARD).is_file() and read_card(Path(spec)).stage == "pretrain":
            reason, remedy = "this run is not finished", "run the same `dirl pretrain` again"
        if (Path(spec) / "config.json").is_file():  # of timm or transformers
            remedy = f"for a downloaded model write timm:{spec} or hf:{spec}"
        raise EncoderError(reason, where=spec, remedy=remedy)
    where = spec if colon else f"{spec!r}"
    raise EncoderError("no such encoder", where=where, remedy=f"there are: {SUPPORTED}")
