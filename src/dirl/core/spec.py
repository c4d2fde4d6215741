"""Specs of encoders and segmenters: `NAME[,key=value…]`."""

from pathlib import Path
from typing import Any

import yaml

from dirl.core.errors import ConfigError

FILE_OPTION = "weights"
"""The option whose value is a file's name, which is not parsed."""


def parse_options(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into a name and options key=value. Values are read as numbers, else as YAML."""
    name, *items = spec.split(",")
    options: dict[str, Any] = {}
    while items:
        item = _with_commas(items)
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            remedy = "write for example weights=FILE"
            raise ConfigError(f"option {item!r} is not of the form key=value", where=spec, remedy=remedy)
        options[key] = value if key == FILE_OPTION else _value(value)
    return name, options


def _with_commas(items: list[str]) -> str:
    """Remove and return the first item. If it is a file's name with commas, include the rest of the name."""
    for end in range(len(items), 1, -1):
        joined = ",".join(items[:end])
        key, _, value = joined.partition("=")
        if key.strip() == FILE_OPTION and Path(value.strip()).is_file():
            del items[:end]
            return joined
    return items.pop(0)


def _value(text: str) -> Any:
    for read in (int, float, yaml.safe_load):  # YAML reads 1e-5 as text
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text
