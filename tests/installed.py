"""Try the installed package from outside of the source tree: modules, data, metadata, and the program.

``make wheel`` runs it in an environment that has nothing but the wheel and what it requires.
"""

import os
import pkgutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "dirl"


def main() -> None:
    """Stop at the first thing that is missing."""
    import dirl

    home = Path(dirl.__file__).parent
    if home == SOURCE:
        sys.exit(f"this is the source tree, not the installed package: {home}")
    ours = {path.relative_to(SOURCE) for path in SOURCE.rglob("*") if path.is_file()}
    ours = {path for path in ours if "__pycache__" not in path.parts}
    if missing := sorted(str(path) for path in ours if not (home / path).exists()):
        sys.exit(f"not in the wheel: {', '.join(missing)}")
    modules = [one.name for one in pkgutil.walk_packages([str(home)], "dirl.")]
    for name in modules:
        with extras_may_lack():
            import_module(name)
    points = [
        point
        for group in ("dirl.segmenters", "dirl.objectives")
        for point in entry_points(group=group)
        if point.module.startswith("dirl.")
    ]
    for point in points:
        with extras_may_lack():
            point.load()
    program = Path(sys.executable).with_name("dirl")
    with tempfile.TemporaryDirectory() as empty:
        for words in (["--version"], ["--help"], ["doctor"]):
            subprocess.run([program, *words], cwd=empty, check=True, env=_environment(), timeout=600)
    print(f"{len(ours)} files, {len(modules)} modules and {len(points)} entry points are there")


@contextmanager
def extras_may_lack() -> Iterator[None]:
    """Let a module miss a package only if an extra installs it."""
    from dirl.core.plugins import install

    try:
        yield
    except ModuleNotFoundError as error:
        if "dirl[" not in install(error.name or ""):
            raise


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


if __name__ == "__main__":
    main()
