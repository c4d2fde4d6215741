"""Settings in YAML: recipes and studies, with ``key=value`` laid over them."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from dirl.config.pretrain import PretrainRecipe
from dirl.config.settings import Settings, make
from dirl.config.yaml_text import parse_yaml
from dirl.core.boundary import parsing, refuse_special
from dirl.core.errors import ConfigError, from_system

MOST_BYTES = 2**20


def load_recipe(spec: str | Path, overrides: Sequence[str] = ()) -> PretrainRecipe:
    """Read a pretraining recipe and lay ``key=value`` overrides over it.

    Parameters
    ----------
    spec
        A YAML file, or the name of a recipe that ships with dirl.
    overrides
        ``dotted.key=value`` items; the value is read as YAML.

    Raises
    ------
    ConfigError
        If there is no such recipe, or it does not hold a valid one.
    """
    values = read_settings(spec, "recipes")
    for item in overrides:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError("not of the form key=value", where=f"setting {item}")
        _assign(values, key.strip(), parse_yaml(value, f"setting {item}"), item)
    return make(PretrainRecipe, values, where=spec)


def read_settings(spec: str | Path, kind: Literal["recipes", "studies"]) -> dict[str, Any]:
    """Read a YAML file of settings, or one of those of a kind that ship with dirl, by name.

    Raises
    ------
    ConfigError
        If there is no such file, or it holds no mapping.
    """
    path = Path(spec)
    shipped = files("dirl") / kind
    if not path.is_file() and (shipped / f"{spec}.yaml").is_file():
        text = (shipped / f"{spec}.yaml").read_text(encoding="utf-8")
    else:
        known = ", ".join(sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir()))
        text = _text(path, f"name a YAML file, or one of: {known}")
    values = parse_yaml(text, spec) or {}
    if not isinstance(values, dict):
        raise ConfigError(
            "settings are a mapping of keys to values", where=spec, remedy="write lines of `key: value`"
        )
    return values


def _text(path: Path, remedy: str) -> str:
    refuse_special(path, kind=ConfigError)
    try:
        size = path.stat().st_size
        data = path.read_bytes() if size <= MOST_BYTES else b""
    except PermissionError as error:
        raise from_system(error, path) from None
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        missing = isinstance(error, FileNotFoundError)
        reason = error.strerror if isinstance(error, OSError) else error
        what = "no such file or shipped name" if missing else f"cannot read it ({reason})"
        raise ConfigError(what, where=path, remedy=remedy) from None
    if size > MOST_BYTES:
        raise ConfigError(f"{size} bytes, more than settings need", where=path, remedy=remedy)
    with parsing(path, remedy="save it as UTF-8", kind=ConfigError, what="not a text in UTF-8"):
        return data.decode("utf-8-sig")


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML that `load_recipe` reads back to an equal object."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


def _assign(values: dict[str, Any], key: str, value: Any, item: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{parent} holds a value, not a section", where=f"setting {item}")
    values[last] = value
