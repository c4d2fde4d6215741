"""The last line of every command that makes an output: what to look at, and the command that may follow."""

from collections import defaultdict
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from dirl.core.errors import StoreError
from dirl.core.outlook import main_file
from dirl.core.progress import say

# By command. Braces take the options and arguments of the command that ended.
NEXT = {
    "demo": "`dirl view {out}/store --audit {out}/audit`",
    "tile": "`dirl cells {out}`",
    "cells": "`dirl cells-report {store} --cells {cells} --out report`",
    "cells-report": "`dirl audit ENCODER --store {store} --cells {cells} --out audit`",
    "cells-score": "`dirl open {out}`",
    "cells-export": "`dirl check {out}`",
    "pretrain": "`dirl audit {out} --store {store} --out audit`",
    "study": "`dirl open {out}`",
    "embed": "`dirl probe {out} --labels labels.csv --out probe`",
    "probe": "`dirl compare {out} OTHER --out compare`",
    "finetune": "`dirl compare {out} OTHER --out compare`",
    "mil": "`dirl compare {out} OTHER --out compare`",
    "tokens": "`dirl readouts {encoder} --store {store} --labels labels.csv --out readouts`",
    "readouts": "`dirl open {out}`",
    "robust": "`dirl open {out}`",
    "compare": "`dirl open {out}`",
    "audit": "`dirl open {out}`",
    "map": "`dirl view {slide} --map {out}`",
    "export": "`dirl check {out}`",
}


def ending(name: str, command: Callable[..., None]) -> Callable[..., None]:
    """Let a command say at its end what to look at, and what may follow. With ``--quiet`` it does not."""
    if name not in NEXT:
        return command

    @wraps(command)
    def run(*args: Any, **options: Any) -> None:
        command(*args, **options)
        if not options.get("quiet") and (line := describe(name, options)):
            say(line)

    return run


def describe(name: str, options: dict[str, Any]) -> str:
    """Word the last line; empty if the output is not finished, as after one part of a cohort."""
    words: defaultdict[str, str] = defaultdict(lambda: "NAME")
    words |= {key: _word(value) for key, value in options.items() if value}
    words["cells"] = _cells(options)
    out = Path(words["store"], "cells", words["cells"]) if name == "cells" else Path(words["out"])
    try:
        found = main_file(out)
    except StoreError:
        return ""
    return f"Look at {found}. Next: {NEXT[name].strip('`').format_map(words)}"


def _word(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _cells(options: dict[str, Any]) -> str:
    from dirl.cells.registry import cells_name
    from dirl.config import CellsConfig

    if cells := options.get("cells"):
        return _word(cells)
    given = {key: options[key] for key in ("segmenter", "name") if options.get(key)}
    return cells_name(CellsConfig(**given))
