"""Reading `metrics.csv`, without Lightning."""

import csv
from pathlib import Path

from dirl.core.boundary import parsing


def read_metrics(path: Path) -> list[dict[str, float]]:
    """Read `metrics.csv`: one mapping per row, without the metrics that were not logged at that step.

    Without a file there are no rows. A last row that a crash cut short is left out.

    Raises
    ------
    StoreError
        If it is damaged.
    """
    if not path.exists():  # nothing was logged yet
        return []
    with parsing(path, remedy="remove it; the rest of the run is logged in a new file"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        header, *rows = csv.reader([line for line in lines if line.endswith("\n")], strict=True)
        if header[:1] != ["step"] or len({*header}) < len(header):
            raise ValueError(f"it begins with {','.join(header)[:80]} instead of step")
        return [
            {name: float(value) for name, value in zip(header, row, strict=True) if value} for row in rows
        ]
