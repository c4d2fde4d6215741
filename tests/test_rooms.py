"""Rooms import in one direction: a room may import those before it, and no room behind it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import dirl

SOURCE = Path(dirl.__file__).parent

# Every folder and file at the top of the package. Those of one line may not import each other.
ORDER = (
    ("core",),
    ("config", "tables", "synthetic", "report"),
    ("slides", "encoders"),
    ("store",),
    ("views",),
    ("prior",),
    ("objectives", "cells", "features"),
    ("pretrain",),
    ("evaluate", "export"),
    ("audit", "maps"),
    ("study", "viewer"),
    ("check", "demo", "doctor"),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}

# A file, and the room behind it that it may import: with the reason.
EXCEPTIONS: dict[tuple[str, str], str] = {}
MOST_EXCEPTIONS = 0


def room_of(path: Path) -> str:
    place = path.relative_to(SOURCE)
    return place.parts[0] if len(place.parts) > 1 else place.stem


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the room of every import from dirl, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno} is a relative import"
            # `from dirl import maps` imports a room, `from dirl.maps import run` a part of one.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, rest = name.partition(".")
            if package == "dirl" and rest.partition(".")[0] in LEVEL:
                yield node.lineno, rest.partition(".")[0]


def climbs() -> dict[tuple[str, str], list[str]]:
    """Return every import of a room that is not before the importing one, by file and room."""
    found: dict[tuple[str, str], list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        mine = room_of(path)
        for line, room in imports(path):
            if room != mine and LEVEL[room] >= LEVEL[mine]:
                file = path.relative_to(SOURCE).as_posix()
                found.setdefault((file, room), []).append(f"{file}:{line} imports {room}")
    return found


def test_every_room_has_its_place() -> None:
    rooms = {room_of(path) for path in SOURCE.rglob("*.py")}
    assert rooms == LEVEL.keys(), "add a new room to ORDER, and remove one that is gone"


def test_no_room_imports_one_behind_it() -> None:
    unlisted = [place for climb, places in climbs().items() if climb not in EXCEPTIONS for place in places]
    assert not unlisted, "move what they share to a room before both:\n" + "\n".join(unlisted)


def test_exceptions_are_few_and_in_use() -> None:
    assert len(EXCEPTIONS) <= MOST_EXCEPTIONS and all(EXCEPTIONS.values())
    assert EXCEPTIONS.keys() <= climbs().keys(), "remove an exception that nothing needs"
