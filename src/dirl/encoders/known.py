"""Encoders by name: the facts of their model cards, without torch."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from dirl.core.errors import EncoderError
from dirl.core.plugins import names, resolve

Interpolation = Literal["bilinear", "bicubic"]
Pooled = Literal["class", "class and mean"]
GROUP = "dirl.encoders"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class KnownEncoder:
    """A published encoder.

    Attributes
    ----------
    name
        The name by which commands take it.
    hub
        Its repository on the Hugging Face hub, ``owner/name``.
    architecture, arguments
        Arguments of `timm.create_model`. ``img_size`` is the side of its images in pixels.
    mpp
        Resolutions of its training in µm/px. Empty if its card states none.
    licence, reference
        Its licence, and its publication.
    gated
        Whether the hub gives it only to accounts that have asked for access.
    mean, std
        Mean and standard deviation by channel that normalise images in 0..1; by default those of ImageNet.
    interpolation
        The filter that resizes images to its input.
    pooled
        The embedding: the class token, or joined with the mean of the patch tokens.
    files
        Names that its file of weights may have; the first that exists is taken.
    """

    name: str
    hub: str
    architecture: str
    arguments: Mapping[str, Any]
    mpp: tuple[float, ...]
    licence: str
    reference: str
    gated: bool
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    pooled: Pooled = "class"
    files: tuple[str, ...] = WEIGHTS

    @property
    def side(self) -> int:
        """Side of its images in pixels."""
        return int(self.arguments["img_size"])


@cache
def known_encoders() -> Mapping[str, KnownEncoder]:
    """Return the published encoders by name, in the order of the list, then those of plug-ins.

    Raises
    ------
    ConfigError
        If a plug-in cannot be imported.
    EncoderError
        If a plug-in declares something else than a `KnownEncoder`, or a name that is taken.
    """
    listed = yaml.safe_load(files("dirl.encoders").joinpath("known.yaml").read_text("utf-8"))
    known = {
        name: KnownEncoder(name=name, **{key: _frozen(value) for key, value in facts.items()})
        for name, facts in listed.items()
    }
    for name in names(GROUP):
        declared, where = resolve(GROUP, name), f"plug-in encoder {name!r}"
        if not isinstance(declared, KnownEncoder) or declared.name != name:
            remedy = f"declare a dirl.encoders.known.KnownEncoder with name={name!r}"
            raise EncoderError("not an encoder of this name", where=where, remedy=remedy)
        if name in known:
            raise EncoderError("dirl has an encoder of this name", where=where, remedy="declare another name")
        known[name] = declared
    return known


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def find_known(name: str) -> KnownEncoder:
    """Return a published encoder. An unknown name is an `EncoderError` with the nearest ones."""
    known = known_encoders()
    if name not in known:
        close = difflib.get_close_matches(name.lower(), known, n=3)
        meant = f"did you mean {', '.join(close)}? " if close else ""
        raise EncoderError("no such encoder", where=repr(name), remedy=f"{meant}`dirl encoders` lists them")
    return known[name]
