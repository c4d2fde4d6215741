"""Settings in YAML: recipes and studies, with ``key=value`` laid over them.

Only mappings, lists, words and numbers are read. YAML takes ``2024-01-02`` for a date, so a date is refused.
A repeated key would lose its first value, so it is refused. So is a file whose references expand to millions
of values.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from dirl.config.pretrain import PretrainRecipe
from dirl.config.settings import Settings, make
from dirl.core.boundary import parsing, refuse_special
from dirl.core.errors import ConfigError, first_line, from_system

MOST_BYTES = 2**20
# By the ends of YAML's tags. A merge key (``<<``) is taken apart before.
PLAIN = ("null", "bool", "int", "float", "str")
SECTIONS: dict[type[yaml.Node], str] = {yaml.MappingNode: "map", yaml.SequenceNode: "seq"}
NAMED = {"timestamp": "date or time"}
MOST_VALUES = 100_000
REMEDY = "correct it; a word that YAML takes for something else belongs in quotes"


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


def parse_yaml(text: str, where: object) -> Any:
    """Read YAML text.

    Raises
    ------
    ConfigError
        If it is no YAML, or holds what no settings hold; with the line and the key, where there are such.
    """
    with parsing(where, remedy=REMEDY, kind=ConfigError, what="not valid YAML"):
        loader = yaml.SafeLoader(text)
        try:
            node = loader.get_single_node()
            return None if node is None else _Builder(loader, where).value(node, ())
        except yaml.MarkedYAMLError as error:  # its first line alone says little
            raise ConfigError(
                f"not valid YAML ({' '.join(str(error).split())[:300]})", where=where, remedy=REMEDY
            ) from None
        finally:
            loader.dispose()


class _Builder:
    """Turns YAML's nodes into values, and counts them: references to references can mean billions."""

    def __init__(self, loader: yaml.SafeLoader, where: object) -> None:
        self.loader, self.where, self.count = loader, where, 0

    def value(self, node: yaml.Node, keys: tuple[str, ...]) -> Any:
        self.count += 1
        if self.count > MOST_VALUES:
            raise self.error(f"more than {MOST_VALUES} values", node, keys)
        kind = node.tag.rpartition(":")[2]
        if kind not in PLAIN and SECTIONS.get(type(node)) != kind:
            written = repr(node.value) if isinstance(node, yaml.ScalarNode) else "it"
            raise self.error(f"{written} is a {NAMED.get(kind, kind)}, not a word or a number", node, keys)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, keys) for item in node.value]
        try:
            return self.loader.construct_object(node)
        except Exception as error:
            raise self.error(first_line(error), node, keys) from error

    def mapping(self, node: yaml.MappingNode, keys: tuple[str, ...]) -> dict[Any, Any]:
        names: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self.error("a key that is no word", key, keys)
            if key.value in names:
                raise self.error(f"{key.value} stands twice in one section", key, keys)
            names.add(key.value)
        self.loader.flatten_mapping(node)
        found = {}
        for key, value in node.value:
            name = self.value(key, (*keys, key.value))
            found[name] = self.value(value, (*keys, key.value))
        return found

    def error(self, reason: str, node: yaml.Node, keys: tuple[str, ...]) -> ConfigError:
        place = f"line {node.start_mark.line + 1}" + (f", {'.'.join(keys)}" if keys else "")
        return ConfigError(f"not valid YAML ({place}: {reason})", where=self.where, remedy=REMEDY)
