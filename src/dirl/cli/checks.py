"""What a command checks before it imports what it needs, so that a wrong argument is reported at once."""

from collections.abc import Iterable
from pathlib import Path

from dirl.core.card import read_card
from dirl.core.errors import ConfigError, SlideError
from dirl.encoders.forms import parse_form


def check_store(store: Path) -> None:
    """Raise a `StoreError` unless it is a tile store."""
    read_card(store, "tile")


def check_encoders(*encoders: str) -> None:
    """Raise an `EncoderError` unless each has a form that an encoder's name can have."""
    for encoder in encoders:
        parse_form(encoder)


def check_labels(labels: str) -> None:
    """Raise a `ConfigError` unless it is a column that labels can come from, or an existing file."""
    from dirl.config import LABEL_COLUMNS

    if labels not in LABEL_COLUMNS and not Path(labels).exists():
        remedy = f"name a CSV file, or one of: {', '.join(LABEL_COLUMNS)}"
        raise ConfigError("no such column or file", where=f"labels {labels}", remedy=remedy)


def check_paths(paths: Iterable[Path | None]) -> None:
    """Raise a `SlideError` if one of these inputs is missing."""
    for path in paths:
        if path is not None and not path.exists():
            raise SlideError("no such file or folder", where=path, remedy="check the path")
