"""`NAME[,key=value…]`: how encoders and segmenters are named."""

from typing import Any

import yaml

from dirl.errors import ConfigError

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
    for item in items:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not (key and equals and value):
            remedy = "write for example weights=FILE; a path may hold no comma"
            raise ConfigError(f"option {item!r} is not of the form key=value", where=spec, remedy=remedy)
        options[key] = value if key == TEXT else _value(value)
    return name, options


def _value(text: str) -> Any:
    for read in (int, float, yaml.safe_load):  # YAML alone takes 1e-5 for a word
        try:
            return read(text)
        except (ValueError, yaml.YAMLError):
            continue
    return text
