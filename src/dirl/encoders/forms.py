"""Words for encoders, without torch: the forms of their names, and the query whose attention is read."""

from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from dirl.core.card import read_card
from dirl.core.errors import EncoderError
from dirl.core.layout import CARD
from dirl.encoders.known import known_encoders

Form = Literal["known", "timm", "hf", "run"]
Query = Literal["cls", "pooling", "mean patch"]
"""That of [CLS]; the one by which a model pools its tokens; or the mean of all patch queries."""

SUPPORTED = (
    "a name of `dirl encoders`, a run's directory, timm:NAME[,weights=FILE] (weights=random: untrained), "
    "timm:DIR, hf:NAME_OR_DIR"
)


def parse_form(spec: str) -> tuple[Form, str]:
    """Take the form and the rest of an encoder's name apart, without loading anything."""
    scheme, colon, rest = spec.partition(":")
    if colon and scheme == "timm":
        return "timm", rest
    if colon and scheme == "hf":
        return "hf", rest
    is_run = (Path(spec) / "encoder" / "config.json").is_file()
    if (name := spec.partition(",")[0]) in known_encoders():
        if is_run:
            reason = "is an encoder of `dirl encoders`, and also a run in this folder"
            raise EncoderError(reason, where=spec, remedy=f"write ./{spec} for the run, or rename it")
        return "known", spec
    if is_run:
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
    close = get_close_matches(name.lower(), known_encoders(), n=3)
    meant = f"did you mean {', '.join(close)}? " if close else ""
    raise EncoderError("no such encoder", where=where, remedy=f"{meant}there are: {SUPPORTED}")
