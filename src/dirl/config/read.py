"""Settings in YAML: recipes and studies, with ``key=value`` laid over them."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from dirl.config.pretrain import PretrainRecipe
from dirl.config.settings import Settings, make
from dirl.errors import ConfigError


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
        _assign(values, key.strip(), _parse(value, f"setting {item}"), item)
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
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            known = ", ".join(sorted(p.name.removesuffix(".yaml") for p in shipped.iterdir()))
            raise ConfigError(
                f"cannot read it ({error.strerror})",
                where=spec,
                remedy=f"name a YAML file, or one of: {known}",
            ) from None
    values = _parse(text, spec) or {}
    if not isinstance(values, dict):
        raise ConfigError("settings are a mapping of keys to values", where=spec)
    return values


def to_yaml(settings: Settings) -> str:
    """Write settings as YAML that `load_recipe` reads back to an equal object."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False)


class _Loader(yaml.SafeLoader):
    """YAML in which no key may stand twice: of two arms or settings of one name, the first would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.YAMLError(f"{twice[0]} stands twice in one section, line {node.start_mark.line + 1}")
        return super().construct_mapping(node, deep)


def _parse(text: str, where: object) -> Any:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML ({' '.join(str(error).split())})", where=where) from None


def _assign(values: dict[str, Any], key: str, value: Any, item: str) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{parent} holds a value, not a section", where=f"setting {item}")
    values[last] = value
