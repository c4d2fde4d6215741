"""`NAME[,key=value…]`: how encoders and segmenters are named."""

from pathlib import Path
from typing import Any

import yaml

from dirl.core.errors import ConfigError

TEXT = "weights"
"""The option that is a file's name, and stays as it is written."""


def parse_options(spec: str) -> tuple[str, dict[str, Any]]:
    """Take a name and its options apart; values are read as numbers, else as YAML.

    Raises
    ------
    ConfigError
        If an option is not of the form key=value.
    """
    name, *items = spec.split(",")
    options: dict[str, Any] = {}
    while items:
        item = _with_commas(items)
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            remedy = "write for example weights=FILE"
            raise ConfigError(f"option {item!r} is not of the form key=value", where=spec, remedy=remedy)
        options[key] = value if key == TEXT else _value(value)
    return name, options


def _with_commas(items: list[str]) -> str:
    """Take the first item, with those behind it that are the rest of a file's name, off the list."""
    for end in range(len(items), 1, -1):
        joined = ",".join(items[:end])
        key, _, value = joined.partition("=")
        if key.strip() == TEXT and Path(value.strip()).is_file():
            del items[:end]
            return joined
    return items.pop(0)


def _value(text: str) -> Any:
    for read in (int, float, yaml.safe_load):  # YAML alone takes 1e-5 for a word
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text
