"""A message advises only what the command has that prints it.

Every string of the package that names an option is followed back to the commands that can reach it, through
the names that functions, classes and constants mention. Each of these commands must have the option, unless
the string itself says whose it is, as in `` `dirl tile --mpp-override UM` ``.
"""

import ast
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from dirl.cli import main as program

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*[a-z]")
QUOTED = re.compile(r"`([^`]*)`")
EVERYWHERE = {"--debug", "--help"}
# What the names say and is not so: whose string, its option, and why the commands without it never print it.
EXCEPTIONS = {
    ("dirl.slides.base.MPP_REMEDY", "--mpp-override"): (
        "`dirl cells` and `dirl study` open slides with the resolution that the store holds"
    ),
    ("dirl.store.dataset._no_cells", "--cells"): (
        "`dirl pretrain` and `dirl study` have keys instead, which the message says as well; the others name "
        "no cells, or cells that they have just made"
    ),
    ("dirl.slides.base.check_resolution", "--allow-upsample"): (
        "`dirl cells`, `study` and `view` ask for no finer resolution than a store or a slide has; the "
        "slide of `dirl demo` is fine enough"
    ),
    ("dirl.slides.tiling.plan_tiles", "--min-tissue"): (
        "`dirl study` tiles nothing, and the slide of `dirl demo` has tissue"
    ),
    **{
        (f"dirl.evaluate.tokens.run.{name}", option): "`dirl study` has these settings below `tokens`"
        for name, option in (("_deal", "--folds"), ("_scored", "--share"), ("_scored", "--tiles"))
    },
    (
        "dirl.core.checked.repair_advice",
        "--overwrite",
    ): "an option of the command that made the output",
}


@cache
def commands() -> dict[str, set[str]]:
    """The options of every command."""
    found = {name: program.load(name) for name in program.COMMANDS}
    return {
        name: {text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)}
        | EVERYWHERE
        for name, command in found.items()
    }


@cache
def modules() -> dict[str, ast.Module]:
    return {
        ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): ast.parse(
            path.read_text(encoding="utf-8")
        )
        for path in sorted((SOURCE / "dirl").rglob("*.py"))
    }


@cache
def plugins() -> dict[str, list[str]]:
    """By entry-point group what it names, as ``module:name``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {group: list(entries.values()) for group, entries in project["entry-points"].items()}


@cache
def imported(module):
    """Names that imports anywhere in a module bind, each with the module and the name there."""
    names = {}
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dirl"):
            for one in node.names:
                names[one.asname or one.name] = (node.module, one.name)
    return names


def resolve(module, name):
    """The module and the name at its top level that an imported name is in the end."""
    if f"{module}.{name}" in modules():
        return f"{module}.{name}", None
    found = imported(module).get(name) if name not in tops(module) else None
    return resolve(*found) if found else (module, name)


@cache
def tops(module):
    """Statements at the top level of a module, by the names that they bind."""
    found: dict[str, list[ast.stmt]] = {}
    for node in modules()[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.setdefault(node.name, []).append(node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in (one.id for one in ast.walk(target) if isinstance(one, ast.Name)):
                    found.setdefault(name, []).append(node)
    return found


@cache
def mentions(module, name):
    """What a function, class or constant names: (module, name) of each."""
    known = imported(module)
    found: set[tuple[Any, ...]] = set()
    for statement in tops(module).get(name, []):
        for node in ast.walk(statement):
            if isinstance(node, ast.Name):
                if node.id in tops(module):
                    found.add((module, node.id))
                elif node.id in known:
                    found.add(resolve(*known[node.id]))
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                place, inner = resolve(*known[node.value.id]) if node.value.id in known else (None, "")
                if place is not None and inner is None:
                    found.add((place, node.attr))
            elif isinstance(node, ast.Constant) and node.value in plugins():
                found |= {tuple(target.split(":")) for target in plugins()[node.value]}
    return {pair for pair in found if pair[0] is not None and pair != (module, name)}


@cache
def reach(command):
    """Everything that a command may run."""
    module = f"dirl.cli.{command.replace('-', '_')}"
    todo, seen = [(module, name) for name in tops(module)], set()
    while todo:
        pair = todo.pop()
        if pair not in seen:
            seen.add(pair)
            todo += mentions(*pair)
    return seen


def texts(statement):
    """Every text below a statement, docstrings left out; what is filled in is an ellipsis."""
    skipped = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            skipped |= {id(first.value) for first in node.body[:1] if isinstance(first, ast.Expr)}
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(part) for part in ast.walk(node) if part is not node}
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.value


def places():
    for module in modules():
        if module == "dirl.cli.main":
            continue
        for name, statements in tops(module).items():
            for statement in statements:
                for text in texts(statement):
                    yield module, name, text


def advised():
    """Module, name and option of every text that advises one without saying whose it is."""
    for module, name, text in places():
        for option in sorted(set(OPTION.findall(QUOTED.sub("", text)))):
            yield module, name, option


def test_every_command_has_the_options_that_its_messages_name():
    wrong = {
        (f"{module}.{name}", option): sorted(lacking)
        for module, name, option in advised()
        if (lacking := {c for c in commands() if (module, name) in reach(c) and option not in commands()[c]})
    }
    assert {key: value for key, value in wrong.items() if key not in EXCEPTIONS} == {}
    assert set(EXCEPTIONS) <= set(wrong), "an exception that is none any more"


def test_quoted_commands_exist_and_have_the_options():
    for module, name, text in places():
        for quoted in QUOTED.findall(text):
            words = quoted.split()
            if words[:1] != ["dirl"] or len(words) < 2:
                continue
            command = words[1].strip("…,.")
            if not re.fullmatch("[a-z][a-z-]*", command):  # one that is filled in
                continue
            assert command in commands(), (module, name, quoted)
            missing = set(OPTION.findall(quoted)) - commands()[command]
            assert not missing, (module, name, quoted)


def test_the_names_are_followed_through_imports_classes_constants_and_plugins():
    assert ("dirl.slides.base", "MPP_REMEDY") in reach("tile")
    assert ("dirl.cells.files.geojson", "GeoJSON") in reach("cells")  # through its entry point
    assert ("dirl.objectives.simclr", "SimCLR") in reach("pretrain")
    assert ("dirl.viewer.server", "Handler") in reach("view")
    assert ("dirl.evaluate.mil.run", "mil") not in reach("tile")
