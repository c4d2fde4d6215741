"""A source of labels: a CSV file, and the column that has the labels."""

from pathlib import Path

LABEL = "label"
_MARK = f",{LABEL}="


def split_source(source: str | Path) -> tuple[Path, str]:
    """Return the file and the column of ``CSV,label=COLUMN``, or of ``CSV``, whose column is ``label``."""
    file, mark, column = str(source).rpartition(_MARK)
    return (Path(file), column) if mark and column else (Path(source), LABEL)


def join_source(path: Path, column: str) -> str:
    """Write a source as `split_source` reads it."""
    return str(path) if column == LABEL else f"{path}{_MARK}{column}"
