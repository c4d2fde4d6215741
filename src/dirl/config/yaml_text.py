"""YAML as settings are written in it: mappings, lists, words, numbers, and nothing that surprises.

A date is refused, since YAML takes ``2024-01-02`` for one. A repeated key is refused, since the first value
would be lost. A file that grows when its references are followed is refused, too.
"""

from typing import Any

import yaml

from dirl.core.boundary import parsing
from dirl.core.errors import ConfigError, first_line

# By the ends of YAML's tags. A merge key (``<<``) is taken apart before.
PLAIN = ("null", "bool", "int", "float", "str")
SECTIONS: dict[type[yaml.Node], str] = {yaml.MappingNode: "map", yaml.SequenceNode: "seq"}
NAMED = {"timestamp": "date or time"}
MOST_VALUES = 100_000
REMEDY = "correct it; a word that YAML takes for something else belongs in quotes"


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
