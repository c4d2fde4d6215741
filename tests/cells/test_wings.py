"""The wings of `dirl.cells` import in one direction: segmenters and files know nothing of each other."""

import ast
from pathlib import Path

import dirl

CELLS = Path(dirl.__file__).parent / "cells"
ORDER = (
    ("base", "source", "token_shares"),
    ("geometry", "registry", "sink", "windows"),
    ("files", "quality", "segmenters"),
    ("export", "from_files", "from_segmenter", "report", "scoring"),
    ("run",),
)
LEVEL = {wing: level for level, wings in enumerate(ORDER) for wing in wings}


def wing_of(path: Path) -> str:
    place = path.relative_to(CELLS)
    return place.parts[0] if len(place.parts) > 1 else place.stem


def imported(path: Path) -> set[str]:
    """Wings that a file imports from, inside functions too."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    names = [f"{node.module}.{node.names[0].name}" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.split(".")[2] for name in names if name.startswith("dirl.cells.")}


def test_the_wings_import_in_one_direction() -> None:
    files = [path for path in CELLS.rglob("*.py") if path != CELLS / "__init__.py"]
    assert {wing_of(path) for path in files} == LEVEL.keys()
    wrong = [
        f"{path.relative_to(CELLS)} imports {wing}"
        for path in files
        for wing in imported(path) - {wing_of(path)}
        if LEVEL[wing] >= LEVEL[wing_of(path)]
    ]
    assert not wrong
