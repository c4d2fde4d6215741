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
    from dirl.tables.label_column import split_source

    if labels not in LABEL_COLUMNS and not split_source(labels)[0].exists():
        remedy = f"name a CSV file, or one of: {', '.join(LABEL_COLUMNS)}"
        raise ConfigError("no such column or file", where=f"labels {labels}", remedy=remedy)


def check_slides(paths: Iterable[Path] | None, cohort: Path | None) -> None:
    """Raise an error unless slides or a cohort's table are given, and exist."""
    named = list(paths or [])
    if not named and cohort is None:
        raise ConfigError("no slides", where="INPUT, --cohort", remedy="name slides, or a cohort's table")
    check_paths([*named, cohort])


def label_source(labels: str | None, cohort: Path | None, label: str | None) -> str:
    """Return the source of labels that ``--labels``, or ``--cohort`` and ``--label``, name.

    Raises
    ------
    ConfigError
        If none or both are given, or there is no such column or file.
    """
    if (labels is None) == (cohort is None):
        what = "neither of them" if labels is None else "both"
        raise ConfigError(f"{what} given", where="--labels, --cohort", remedy="name one")
    if cohort is None and label is not None:
        raise ConfigError("it names a column of --cohort", where="--label", remedy="name --cohort, too")
    from dirl.tables.label_column import LABEL, join_source

    source = labels if cohort is None else join_source(cohort, label or LABEL)
    assert source is not None
    check_labels(source)
    return source


def check_paths(paths: Iterable[Path | None]) -> None:
    """Raise a `SlideError` if one of these inputs is missing."""
    for path in paths:
        if path is not None and not path.exists():
            raise SlideError("no such file or folder", where=path, remedy="check the path")
