"""How long `import dirl`, `dirl --help` and failing commands take.

`python benchmarks/imports.py`. Each command runs in a process of its own, several times in turns. Writes
results/imports.json: `import dirl` relative to `import torch`, failing commands relative to `dirl --help`.
"""

import subprocess
import sys
import tempfile
from collections.abc import Callable

from harness import compare, write

REPEATS = 9
FAILING = (
    "pretrain demo --set stepz=1 --store S --out O",
    "pretrain nosuchrecipe --store S --out O",
    "pretrain demo --store S --out O",
    "compare A B --out O",
    "audit nosuch:form --store S --out O",
    "embed nosuch:form --slides . --out O",
    "probe . --labels missing.csv --out O",
)


def runner(*words: str, folder: str) -> Callable[[], object]:
    """Return a function that runs Python with these arguments."""
    return lambda: subprocess.run([sys.executable, *words], cwd=folder, capture_output=True, check=False)


def main() -> None:
    """Time them, and write the results."""
    with tempfile.TemporaryDirectory() as folder:
        imports = {
            f"import {name}": runner("-c", f"import {name}", folder=folder) for name in ("torch", "dirl")
        }
        lines = ("--help", *FAILING)
        commands = {f"dirl {line}": runner("-m", "dirl", *line.split(), folder=folder) for line in lines}
        found = [compare("imports", imports, REPEATS), compare("commands", commands, REPEATS)]
    print(write("imports", {"results": found}))


if __name__ == "__main__":
    main()
