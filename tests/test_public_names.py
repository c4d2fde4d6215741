"""`import dirl` is light, and offers what it promises."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import dirl

HEAVY = ["h5py", "lightly", "lightning", "matplotlib", "numpy", "pandas", "PIL", "pyarrow", "pydantic"]
HEAVY += ["rich", "scipy", "skimage", "sklearn", "timm", "torch", "torchvision", "typer", "yaml"]
COMMANDS = ["audit", "cells", "check", "demo", "doctor", "export", "pretrain", "study"]


def test_import_dirl_imports_no_heavy_package() -> None:
    code = f"import sys, dirl; dir(dirl); print(*[name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout.split() == []


def test_every_name_is_there() -> None:
    assert sorted(dirl.__all__) == dirl.__all__ and set(dirl.__all__) <= set(dir(dirl))
    for name in dirl.__all__:
        assert getattr(dirl, name) is not None
    with pytest.raises(AttributeError, match="nothing_such"):
        _ = dirl.nothing_such


def test_type_checkers_see_the_same_names_in_the_same_places() -> None:
    source = Path(dirl.__file__).read_text()
    block = next(node for node in ast.parse(source).body if isinstance(node, ast.If))
    seen = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert sorted([*seen, "DirlError", "DirlWarning", "__version__"]) == dirl.__all__
    for name, (module, attribute) in seen.items():
        code = f"from {module} import {attribute} as found"
        space: dict[str, object] = {}
        exec(code, space)
        public = getattr(dirl, name)
        assert (public.__wrapped__ if name in COMMANDS else public) is space["found"], name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_package_with_the_name_of_a_command_is_called_as_it(name: str) -> None:
    public = getattr(dirl, name)
    assert inspect.ismodule(public) and public is sys.modules[f"dirl.{name}"]
    function = public.__wrapped__
    assert inspect.isfunction(function) and inspect.signature(getattr(dirl, name)) == inspect.signature(
        function
    )


def test_calling_such_a_package_runs_the_command(tmp_path: Path) -> None:
    with pytest.raises(dirl.DirlError, match="no such directory"):
        dirl.check(tmp_path / "nowhere")
    assert dirl.doctor()[0].name == "dirl"
