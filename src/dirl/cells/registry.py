"""Segmenters by name: ``NAME[:ARGUMENT][,key=value…]`` or ``package.module:attribute``."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dirl.cells.base import Segmenter
from dirl.cells.source import CellSource
from dirl.config import CellsConfig
from dirl.core.errors import ConfigError
from dirl.core.plugins import names, resolve
from dirl.core.spec import parse_options

GROUP = "dirl.segmenters"
# NAME:PLACE reads the results of these networks, if PLACE is a folder or a file with one of these suffixes.
RESULTS = {"cellvit": "cellvit-json", "hovernet": "hovernet-json", "stardist": "imagej-rois"}
RESULT_FILES = (".json", ".zip")


@dataclass(frozen=True)
class SegmenterName:
    """The parts of the option ``--segmenter``.

    Attributes
    ----------
    target
        A declared name, or ``package.module:attribute``.
    argument
        The part after the colon of a declared name, as in ``labels:DIR``; None without a colon.
    options
        The ``key=value`` pairs.
    """

    target: str
    argument: str | None
    options: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Default name of its cells in a store."""
        return self.target.replace(":", ".")


def parse_segmenter(spec: str) -> SegmenterName:
    """Split the option ``--segmenter`` into its parts; raise a `ConfigError` if one is not ``key=value``."""
    named, options = parse_options(spec)
    target, colon, argument = named.partition(":")
    if colon and target in names(GROUP):
        if target in RESULTS and _is_result(Path(argument).expanduser()):
            target = RESULTS[target]
        return SegmenterName(target, argument, options)
    return SegmenterName(named, None, options)


def _is_result(place: Path) -> bool:
    return place.is_dir() or place.suffix.lower() in RESULT_FILES


def cells_name(config: CellsConfig) -> str:
    """Name of the cells in the store."""
    return config.name or parse_segmenter(config.segmenter).folder


def load_segmenter(spec: str, **how: Any) -> Segmenter | CellSource:
    """Create the segmenter, or the source of nuclei in files, that ``--segmenter`` names.

    The options in `how` change the speed and not the labels, such as ``device`` and ``batch_size``. A
    segmenter that does not have them does not get them.

    Raises
    ------
    ConfigError
        If the name does not exist, does not take the argument or an option, or is not a segmenter.
    """
    name = parse_segmenter(spec)
    where = f"segmenter {spec!r}"
    made = resolve(GROUP, name.target)
    if isinstance(made, type):
        taken = inspect.signature(made).parameters
        if unknown := sorted(name.options.keys() - taken.keys()):
            remedy = f"there are: {', '.join(sorted(taken.keys() - how.keys())) or 'none'}"
            raise ConfigError(f"takes no option {', '.join(unknown)}", where=where, remedy=remedy)
        if name.argument is None and any(one.default is one.empty for one in taken.values()):
            remedy = f"name it after a colon: {name.target}:DIR_OR_FILE"
            raise ConfigError("needs a folder or a file", where=where, remedy=remedy)
        arguments = [] if name.argument is None else [name.argument]
        fitting = {key: value for key, value in how.items() if key in taken}
        try:
            segmenter = made(*arguments, **{**fitting, **name.options})
        except TypeError as error:
            remedy = "see `dirl cells --help`"
            raise ConfigError(f"cannot be made ({error})", where=where, remedy=remedy) from error
    elif name.options or name.argument is not None:
        raise ConfigError("is an object, which takes no options", where=where, remedy="leave them out")
    else:
        segmenter = made
    if isinstance(segmenter, CellSource):
        return segmenter
    if not all(hasattr(segmenter, part) for part in ("fit", "mpp", "digest")):
        raise ConfigError("has no fit, mpp and digest", where=where, remedy="see dirl.cells.base.Segmenter")
    found: Segmenter = segmenter
    return found
